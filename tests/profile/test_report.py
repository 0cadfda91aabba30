"""What is said of a profile that is written down here, and how two compare."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deepchip.formats.errors import InputError
from deepchip.machine import Machine, State
from deepchip.profiling import tables
from deepchip.profiling.compare import compare, read_profile
from deepchip.profiling.doubts import doubts
from deepchip.profiling.records import (
    Latency,
    Layer,
    Memory,
    ModelFile,
    Phase,
    Profile,
    Sample,
    Settings,
    Start,
    Versus,
)
from deepchip.profiling.report import as_dict, as_html, as_text
from deepchip.profiling.watch import thinned

from ..test_page import parsed

PI = Machine("Raspberry Pi 4 <B>", "Cortex-A72", "aarch64", 64, 4, ("NEON",), 2**30, 0, "Debian 12")
CALM = State("performance", "cpufreq-dt", 1800.0, 1800.0, 50.0, 0, False, False, 2**29)


def latency(threads=1, median=10.0, **changed):
    runs = tuple([median] * 25)
    found = Latency(threads, median, median, median, median, 1000 / median, runs, 1800.0, 55.0)
    return replace(found, **changed)


CALLS = (latency(), latency(4, 4.0))
PROFILE = Profile(
    schema=1,
    deepchip="1.0",
    libraries={"python": "3.11.2", "numpy": "2.0", "numba": "0.60", "h5py": "3.9"},
    machine=PI,
    model=ModelFile("a&b.dchip", "net", 12_345),
    settings=Settings("numba", 1, 5, 25, 0.0, "random"),
    start=Start(0.5, 1.0, 0.25, 0.5, 0.5, 0.25, 0, True),
    first_start=Start(0.5, 1.0, 0.25, 0.5, 20.0, 0.25, 12, True),
    latency=CALLS,
    layers=(
        Layer("conv", "Conv", ("spread", "conv_blocks"), 7.5, 0.75, 1_000_000, 3_000_000, 4e8, 700),
        Layer("flat", "Reshape", (), 0.0, 0.0, 0, 0, None, 0),
        Layer("fc", "FullyConnected", ("add_planes",), 2.4, 0.24, 500, 1500, 6.25e5, 300),
        Layer("tiny", "Relu", ("relu",), 0.1, 0.001, 0, 0, None, 0),
    ),
    overhead_ms=0.05,
    memory=Memory(30_000_000, 90_000_000, 99_000_000, 100_000_000, 110_000_000, 0, 1000, 2000, 500),
    samples=tuple(Sample(s / 4, 10**6 * s, 1800.0, 50.0 + s) for s in range(20)),
    phases=(Phase(0.0, "imports"), Phase(2.0, "load")),
    before=CALM,
    after=replace(CALM, temperature_c=61.0),
    others_cores=0.01,
    warnings=("it was <hot>",),
    versus=Versus("ONNX Runtime 1", "n.onnx", 99, 1.5, 200_000_000, latency(1, 30.0), latency()),
)


def row(text, name):
    (found,) = [line for line in text.splitlines() if line.strip().startswith(name)]
    return found.split()


def test_text():
    text = as_text(PROFILE)
    assert text.startswith("a&b.dchip on Raspberry Pi 4 <B>\nCortex-A72, 4 cores, 1.0 GiB, NEON, ")
    assert row(text, "4  ")[:3] == ["4", "250", "4.00"]
    assert row(text, "conv") == [
        *("conv", "7.50", "75.0%", "1", "M", "0.4", "G", "700", "Conv", "spread,", "conv_blocks"),
    ]
    assert "flat" not in text
    assert row(text, "all layers")[2] == "10.0"
    assert row(text, "besides them")[2] == "0.0500"
    # 110 - 90 - 0.0035, and 110 - 90 and 100 - 90 MB.
    assert row(text, "kernels, loading and the rest")[-1] == "20.0"
    assert "adds 20.0 MB to the imports at its peak, and 10.0 MB once it has run" in text
    assert row(text, "kernels: from the cache; 12 compiled")[-2:] == ["0.50", "20.00"]
    assert row(text, "all  ")[-2:] == ["3.00", "22.50"]
    assert row(text, "FPS")[-2:] == ["100", "33.3"]
    assert "before 1,800 MHz, 50 °C, not throttled, governor performance" in text
    assert "meanwhile 1,800 MHz at least, 55 °C at most" in text
    assert text.endswith("warning: it was <hot>")


def test_page():
    found = parsed(as_html(PROFILE))
    assert found.texts["h1"] == ["a&b.dchip on Raspberry Pi 4 <B>"]
    assert found.texts["li"] == ["it was <hot>"]
    tiles = ["FPS, 4 threads", "median ms, 4 threads", "MB at peak", "MB for the model", "start, s"]
    assert found.texts["dt"] == [*tiles, "conv", "fc", "1 others"]
    assert found.texts["dd"][:5] == ["250", "4.00", "110.0", "20.0", "3.00"]
    # Calls, memory, clock and temperature.
    assert sum(name == "viewbox" for name, _ in found.attributes) == 4
    without = replace(
        PROFILE, versus=None, first_start=None, samples=(), warnings=(),
        before=replace(CALM, clock_mhz=None, temperature_c=None, throttled=None, governor=""),
    )  # fmt: skip
    assert "li" not in parsed(as_html(without)).texts


def test_json_is_the_record_and_what_follows_from_it():
    data = json.loads(json.dumps(as_dict(PROFILE)))
    assert data["start"]["total_s"] == 3.0
    assert data["first_start"]["total_s"] == 22.5
    assert data["memory"]["model_bytes"] == 20_000_000
    assert data["layers"][0]["kernels"] == ["spread", "conv_blocks"]
    assert data["machine"]["board"] == "Raspberry Pi 4 <B>"
    assert data["versus"]["theirs"]["median_ms"] == 30.0
    assert data["schema"] == 1


def test_every_field_is_documented():
    """docs/profile.md names all fields of the JSON."""
    text = (Path(__file__).parents[2] / "docs" / "profile.md").read_text()

    def names(data):
        for name, value in data.items():
            yield name
            inner = value[0] if isinstance(value, (list, tuple)) and value else value
            if isinstance(inner, dict) and name != "libraries":
                yield from names(inner)

    missing = [name for name in names(as_dict(PROFILE)) if f"`{name}`" not in text]
    assert missing == []


def test_compare():
    other = as_dict(replace(
        PROFILE, deepchip="0.9", latency=(latency(1, 20.0), latency(2, 11.0)),
        layers=(replace(PROFILE.layers[0], ms=2.5), PROFILE.layers[1]),
        machine=replace(PI, board="", cpu="Xeon"),
    ))  # fmt: skip
    found = compare(as_dict(PROFILE), other)
    assert found.names[1] == "a&b.dchip on Xeon, DeepChip 0.9"
    ratios = {figure.name: figure.ratio for figure in found.figures}
    assert ratios == pytest.approx(
        {
            "FPS, 1 thread": 2,
            "median ms, 1 thread": 0.5,
            "95 % ms, 1 thread": 0.5,
            "start, s": 1,
            "MB at peak": 1,
            "MB of the model": 1,
            "layer conv, ms": 3,
        }
    )
    assert found.differences == ()
    text = as_text(PROFILE, found)
    assert row(text, "layer conv, ms")[-3:] == ["7.50", "2.50", "3.00"]
    assert parsed(as_html(PROFILE, found))
    other["settings"]["batch"] = 4
    assert "batch 1 here, 4 there" in compare(as_dict(PROFILE), other).differences[0]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "no profile; make one"),
        ("[]", "no profile"),
        ("{}", "no profile"),
        ("[" * 100_000, "no profile"),
        ('{"schema": 2}', "profile of schema 2, this release compares 1"),
    ],
)
def test_other_files_are_refused(tmp_path, content, text):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=rf"x\.json: {text}"):
        read_profile(tmp_path / "x.json")


def test_a_damaged_profile_is_refused(tmp_path):
    for name in ("machine", "settings", "latency", "start", "memory", "layers"):
        for damage in (None, 3, [3], "x"):
            with pytest.raises(InputError, match="damaged"):
                compare(as_dict(PROFILE), {**as_dict(PROFILE), name: damage})


def warned(before=CALM, after=CALM, calls=CALLS, layers=10.0, others=0.0, swapped=0, machine=PI):
    return list(doubts(machine, before, after, calls, layers, others, swapped))


def test_a_calm_machine_is_trusted():
    assert warned() == []
    assert warned(others=None) == []
    unknown = State("", "", None, None, None, None, None, False, None)
    quiet = [latency(clock_mhz=None, temperature_c=None)]
    assert warned(unknown, unknown, quiet) == []
    # Throttled long ago, and not since.
    assert warned(replace(CALM, throttled=0x50000), replace(CALM, throttled=0x50000)) == []


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"before": replace(CALM, governor="ondemand")}, "governor 'ondemand' lets the clock"),
        ({"before": replace(CALM, governor="powersave")}, "keeps the clock at its lowest"),
        ({"after": replace(CALM, throttled=0x10000)}, "under-voltage meanwhile"),
        ({"before": replace(CALM, throttled=0x4), "after": CALM}, "throttled meanwhile"),
        ({"after": replace(CALM, throttled=0x80008)}, "soft temperature limit meanwhile"),
        ({"after": replace(CALM, low_voltage=True)}, "voltage is too low"),
        ({"after": replace(CALM, on_battery=True)}, "battery"),
        ({"calls": [latency(clock_mhz=1000.0)]}, "the clock fell to 1,000 of 1,800 MHz"),
        ({"calls": [latency(temperature_c=83.0)]}, "83 degrees"),
        ({"calls": [latency(8)]}, "8 threads share 4 cores"),
        ({"calls": [latency(p95_ms=16.0)]}, "one call in 20 took 1.6 times the median"),
        ({"layers": 15.0}, "one by one 15 ms"),
        ({"others": 1.5}, "other programs kept 1.5 cores"),
        ({"swapped": 5_000_000}, "5 MB of the process were swapped out"),
    ],
)
def test_each_reason_is_one_line(given, text):
    (line,) = warned(**given)
    assert text in line


def test_the_governor_of_a_laptop_follows_the_load():
    """The powersave of intel_pstate does not keep the clock down (Linux, admin-guide/pm)."""
    (line,) = warned(replace(CALM, governor="powersave", driver="intel_pstate"))
    assert "follow the load" in line


def test_a_short_run_has_no_percentiles_to_judge():
    assert warned(calls=[latency(p95_ms=30.0, runs_ms=(10.0, 30.0))]) == []


def test_samples_are_thinned_to_their_peaks():
    samples = [Sample(float(s), s % 7, None, None) for s in range(1000)]
    few = thinned(samples, 100)
    assert len(few) == 100
    assert all(sample.resident_bytes >= 6 - 0 for sample in few)
    assert thinned(samples[:5], 100) == tuple(samples[:5])
    assert thinned([]) == ()


def test_numbers():
    assert [tables.ms(x) for x in (1234.5, 12.345, 1.2345, 0.0123)] == [
        *("1,234", "12.3", "1.23", "0.0123"),
    ]
