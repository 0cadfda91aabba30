"""The doctor on this machine, on machines that lack something, and on a Raspberry Pi."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from deepchip import doctor
from deepchip.cli import main

from .network import write
from .pi import pi, vcgencmd

REMEDY = "use backend='numpy'"


def by_name(lines):
    return {line.name: line for line in lines}


def test_this_machine_is_fit(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"{sys.version.split()[0]} at {sys.executable}" in said
    assert "gives what it has to on both backends" in said
    assert "fail" not in said
    assert main(["doctor", "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert {tuple(line) for line in lines} == {("name", "status", "found", "remedy")}
    assert {"system", "Python", "NumPy", "Numba", "h5py", "test", "kernel cache", "processor"} < {
        line["name"] for line in lines
    }


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_without_numba(tmp_path):
    """It says so, and that NumPy does; and NumPy does."""
    blocked = "import sys; sys.modules['numba'] = sys.modules['llvmlite'] = None\n"
    found = python(blocked + "from deepchip.cli import main; sys.exit(main(['doctor', '--json']))")
    assert found.returncode == 1, found.stderr
    lines = {line["name"]: line for line in json.loads(found.stdout)}
    assert [name for name, line in lines.items() if line["status"] == "fail"] == ["Numba", "test"]
    assert REMEDY in lines["Numba"]["remedy"]
    assert "backend numpy works" in lines["test"]["found"]
    assert lines["test"]["remedy"] == REMEDY
    code = (
        f"{blocked}import deepchip, numpy; model = deepchip.load({str(write(tmp_path))!r}, "
        "backend='numpy'); print(model(numpy.ones((2, 1, 8, 8), 'f')).shape)"
    )
    assert python(code).stdout == "(2, 10)\n"


def test_a_32_bit_system(monkeypatch):
    """As on one: a Python of 32 bits, for which there is no Numba."""
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    for name in ("numba", "llvmlite"):
        monkeypatch.setitem(sys.modules, name, None)
    lines = by_name(doctor.examine())
    assert lines["Numba"].remedy.startswith("there is none for 32 bits; use backend='numpy'")
    assert "backend numpy works" in lines["test"].found
    assert lines["system"].status == "fail"
    assert "32-bit Python" in lines["system"].found
    assert "backend='numpy'" in lines["system"].remedy
    assert doctor.status(lines.values()) == 1


def test_a_cache_that_cannot_be_kept(tmp_path):
    """A file is where the folder would be, so that not even root can write there."""
    (tmp_path / "file").write_text("")
    found = python(
        "import sys; from deepchip.cli import main; sys.exit(main(['doctor']))",
        DEEPCHIP_CACHE_DIR=str(tmp_path / "file" / "kernels"),
    )
    assert found.returncode == 0, found.stderr
    line, remedy = found.stdout[found.stdout.index("warn  kernel cache") :].splitlines()[:2]
    assert str(tmp_path / "file" / "kernels") in line
    assert "DEEPCHIP_CACHE_DIR" in remedy


def test_a_kernel_that_computes_wrongly(monkeypatch):
    graph, x, expected = doctor._network()
    monkeypatch.setattr(doctor, "_network", lambda: (graph, x, expected + 1))
    line = by_name(doctor.examine())["test"]
    assert (line.status, line.found) == ("fail", "backend numpy: gives a wrong result")


def test_a_raspberry_pi_that_is_well(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", vcgencmd(tmp_path, "throttled=0x0") + ":/bin")
    lines = by_name(doctor.examine(pi(tmp_path)))
    assert lines["system"].found.startswith("Raspberry Pi 4 Model B Rev 1.5, Debian")
    assert lines["processor"].found.startswith("Cortex-A72, ")
    assert "NEON" in lines["processor"].found
    assert lines["memory"].found == "1,930 MB, 1,536 available; 105 MB of swap"
    assert lines["clock"].found == "governor ondemand, 600 of 1,800 MHz now"
    assert lines["clock"].remedy.startswith("for even latency: echo performance")
    assert (lines["temperature"].status, lines["temperature"].found) == ("ok", "49 °C")
    assert lines["throttling"].found == "none since the start"
    assert {line.status for line in lines.values()} == {"ok"}


def test_a_raspberry_pi_in_trouble(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", vcgencmd(tmp_path, "throttled=0x50005") + ":/bin")
    meminfo = "MemTotal: 900000 kB\nMemAvailable: 100000 kB\n"
    root = pi(tmp_path, temp="84000", scaling_governor="powersave", meminfo=meminfo)
    lines = by_name(doctor.examine(root))
    named = ("memory", "clock", "temperature", "throttling")
    assert {lines[name].status for name in named} == {"warn"}
    assert all(lines[name].remedy for name in named)
    assert "no swap" in lines["memory"].found
    assert lines["throttling"].found.startswith("under-voltage; throttled; since the start:")
    assert doctor.status(lines.values()) == 0


def test_throttling_that_is_over_is_told_and_no_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", vcgencmd(tmp_path, "throttled=0x50000") + ":/bin")
    line = by_name(doctor.examine(pi(tmp_path)))["throttling"]
    assert (line.status, line.found) == ("ok", "since the start: under-voltage, throttled")


@pytest.mark.parametrize(("alarm", "status"), [("0", "ok"), ("1", "warn")])
def test_a_raspberry_pi_without_vcgencmd(tmp_path, monkeypatch, alarm, status):
    monkeypatch.setenv("PATH", str(tmp_path))
    line = by_name(doctor.examine(pi(tmp_path, in0_lcrit_alarm=alarm)))["throttling"]
    assert line.status == status
    assert "raspi-utils" in line.remedy
