"""What is read of a machine, against the files of a Raspberry Pi 4 and of none."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from deepchip import machine
from deepchip.runtime.memory import resident

from .pi import pi, vcgencmd


def test_a_raspberry_pi(tmp_path, monkeypatch):
    root = pi(tmp_path)
    found = machine.machine(root)
    assert found.board == "Raspberry Pi 4 Model B Rev 1.5"
    assert (found.cpu, found.simd) == ("Cortex-A72", ("NEON",))
    assert found.memory_bytes == 1884420 * 1024
    assert found.swap_bytes == 102396 * 1024
    assert found.system == "Debian GNU/Linux 12 (bookworm)"
    monkeypatch.setenv("PATH", vcgencmd(tmp_path, "throttled=0x50001") + ":/bin")
    state = machine.state(root)
    assert (state.governor, state.driver) == ("ondemand", "cpufreq-dt")
    assert (state.clock_mhz, state.max_clock_mhz) == (600, 1800)
    assert state.temperature_c == pytest.approx(48.692)
    assert state.throttled == 0x50001
    assert state.low_voltage is False
    assert state.on_battery is False
    assert state.available_bytes == 1500000 * 1024


def test_a_machine_that_tells_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found, state = machine.machine(tmp_path), machine.state(tmp_path)
    assert (found.board, found.simd, found.memory_bytes) == ("", (), None)
    assert (state.governor, state.driver) == ("", "")
    assert state.on_battery is False
    told = (state.clock_mhz, state.max_clock_mhz, state.temperature_c, state.throttled)
    assert (*told, state.low_voltage, state.available_bytes) == (None,) * 6
    assert machine.busy_seconds(tmp_path) is None
    assert machine.process_seconds(1, tmp_path) is None
    assert machine.process_bytes(1, tmp_path) is None


def test_files_of_nonsense_count_as_missing(tmp_path, monkeypatch):
    root = pi(
        tmp_path, temp="hot", scaling_cur_freq="", cpuinfo="\0\xff", meminfo="MemTotal: many kB\n",
        stat="cpu  a b\n", in0_lcrit_alarm="?",
    )  # fmt: skip
    monkeypatch.setenv("PATH", vcgencmd(tmp_path, "Can't open device file: /dev/vcio") + ":/bin")
    state = machine.state(root)
    assert (state.temperature_c, state.clock_mhz, state.throttled) == (None, None, None)
    assert (state.available_bytes, state.low_voltage) == (None, None)
    assert machine.machine(root).memory_bytes is None
    assert machine.busy_seconds(root) is None


def test_a_battery_that_is_used(tmp_path):
    supply = tmp_path / "sys/class/power_supply/BAT0"
    supply.mkdir(parents=True)
    for said, used in (("Discharging", True), ("Charging", False), ("Full", False)):
        (supply / "status").write_text(f"{said}\n")
        assert machine.state(tmp_path).on_battery is used


def test_the_hottest_of_the_cpus_counts_and_other_zones_do_not(tmp_path):
    for number, (kind, degrees) in enumerate((("cpu-thermal", 50), ("cpu1", 61), ("battery", 90))):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(kind)
        (zone / "temp").write_text(str(1000 * degrees))
    assert machine.temperature_c(tmp_path) == 61


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0, []),
        # The example of the documentation: has been throttled for under-voltage, is not now.
        (0x50000, ["since the start: under-voltage, throttled"]),
        (0xA, ["Arm frequency capped", "soft temperature limit"]),
        (0x80008, ["soft temperature limit", "since the start: soft temperature limit"]),
    ],
)
def test_throttling(bits, words):
    assert machine.throttling(bits) == words


def test_work_of_all_cores_leaves_out_waiting(tmp_path):
    """User, nice, system, irq, softirq and steal; neither idle nor iowait, nor guests twice."""
    ticks = 1000 + 20 + 300 + 6 + 7 + 8
    assert machine.busy_seconds(pi(tmp_path)) == ticks / os.sysconf("SC_CLK_TCK")


def test_a_process_is_seen_from_outside():
    """Against what it says of itself."""
    code = "import time; b = bytearray(50_000_000); t = time.process_time\nwhile t() < 0.5: pass\n"
    code += "print(t(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        spent = float(process.stdout.readline())
        assert machine.process_seconds(process.pid) == pytest.approx(spent, abs=0.1)
        assert machine.process_bytes(process.pid) > 50_000_000
        process.communicate("\n")
    assert machine.process_bytes(os.getpid()) == pytest.approx(resident(), rel=0.05)


def test_this_machine_moves():
    before = machine.busy_seconds()
    begin = time.process_time()
    while time.process_time() < begin + 0.3:
        pass
    assert machine.busy_seconds() - before >= 0.25
