"""Commands that are interrupted or told to end, at any moment: nothing half, one line, a status."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.checks import needs_handled_signals

from .processes import LENET, SECONDS, written

if not Path("/proc/self/status").exists():
    pytest.skip("needs /proc to see when a process is ready", allow_module_level=True)

OLD = b"what was there"
SUFFIX = {"convert": ".dchip", "run": ".npy"}
SAID = {
    signal.SIGINT: (130, "deepchip: interrupted\n"),
    signal.SIGTERM: (143, "deepchip: terminated\n"),
    signal.SIGHUP: (129, "deepchip: hung up\n"),
}


@pytest.fixture(scope="module", autouse=True)
def hung_up():
    """Where the tests were started by nohup, so that all that they start would ignore SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("signals")


@pytest.fixture(scope="module")
def commands(folder):
    """Commands, whose target follows as the last argument, and how long they take."""
    needs_handled_signals()
    model = written(folder)
    np.save(folder / "x.npy", np.zeros((300_000, 2), np.float32))
    deepchip = [sys.executable, "-m", "deepchip"]
    convert = [*deepchip, "convert", str(LENET)]
    run = [*deepchip, "run", str(model), "--backend", "numpy", "--input", str(folder / "x.npy"),
           "--output"]  # fmt: skip
    found = {}
    for name, command in {"convert": convert, "run": run}.items():
        begin = time.monotonic()
        target = folder / f"first-{name}{SUFFIX[name]}"
        subprocess.run([*command, str(target)], check=True, capture_output=True, timeout=SECONDS)
        found[name] = (command, target.read_bytes(), time.monotonic() - begin)
    return found


def handles(process, number):
    """Return whether a process handles a signal by now (SigCgt, proc(5))."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("SigCgt"):
            return int(line.split()[1], 16) >> (number - 1) & 1
    return False


def interrupted(command, delay, *numbers, ready=signal.SIGHUP):
    """Start a command, and send signals `delay` seconds after it has begun to handle `ready`."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        while process.poll() is None and not handles(process, ready):
            time.sleep(0.001)
        time.sleep(delay)
        for number in numbers:
            process.send_signal(number)
        _, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, err


def check(name, commands, tmp_path, delay, *numbers):
    command, new, _ = commands[name]
    target = tmp_path / f"target{SUFFIX[name]}"
    target.write_bytes(OLD)
    status, err = interrupted([*command, str(target)], delay, *numbers)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    if status == 0:  # it was over before
        assert (err, target.read_bytes()) == ("", new)
        return False
    assert (status, err) in {SAID[number] for number in numbers}
    assert target.read_bytes() in (OLD, new)
    return True


@pytest.mark.parametrize("name", ["convert", "run"])
@pytest.mark.parametrize("number", SAID)
def test_at_once(name, number, commands, tmp_path):
    """While NumPy is being imported, which turns any exception into an ImportError."""
    assert check(name, commands, tmp_path, 0.0, number)


@pytest.mark.parametrize("name", ["convert", "run"])
@pytest.mark.parametrize("count", [6, pytest.param(150, marks=pytest.mark.slow)])
def test_at_any_moment(name, count, commands, tmp_path):
    moments = random.Random(count)
    seconds = commands[name][2]
    stopped = 0
    for attempt in range(count):
        delay = seconds * (attempt + moments.random()) / count
        stopped += check(name, commands, tmp_path, delay, moments.choice(list(SAID)))
    assert stopped


def test_signals_that_follow_each_other(commands, tmp_path):
    """The second must not keep the first from tidying up."""
    for delay in (0.05, 0.2, 0.4):
        check("convert", commands, tmp_path, delay, *[signal.SIGINT, signal.SIGTERM] * 10)


def test_what_nohup_ignores_stays_ignored(commands, tmp_path):
    command, new, _ = commands["run"]
    target = tmp_path / "y.npy"
    ignoring = (
        "import signal, sys, runpy; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        "sys.argv[:] = sys.argv[2:]; runpy.run_module('deepchip', run_name='__main__')"
    )
    command = [sys.executable, "-c", ignoring, *command[1:], str(target)]
    status, err = interrupted(command, 0.1, signal.SIGHUP, ready=signal.SIGTERM)
    assert (status, err, target.read_bytes()) == (0, "", new)


IN_A_FINALIZER = """
import signal, sys, time, weakref
from deepchip import cli
class Object:
    pass
def command(arguments):
    x = Object()
    told = weakref.ref(x, lambda _: signal.raise_signal(signal.SIGTERM))
    del x
    for _ in range(2000):
        time.sleep(0.01)
    return 0
cli._run = command
sys.exit(cli.main())
"""


def test_in_a_finalizer():
    """Python lets no exception out of one, and would report it: the command ends all the same."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FINALIZER], capture_output=True, text=True, timeout=SECONDS
    )
    assert (done.returncode, done.stderr) == (143, SAID[signal.SIGTERM][1])
