"""Helpers that tests of several folders share."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PATIENCE = float(os.environ.get("DEEPCHIP_TEST_PATIENCE", "1"))
"""How many times as long anything may take as on a PC of today: about 30 on an emulated machine."""


def data_folder(name: str) -> Path:
    """Return a folder or file of the shared data, or skip the test and say why."""
    root = Path(os.environ.get("DEEPCHIP_DATA", Path(__file__).parents[2] / "shared" / "data"))
    path = root / name
    if not path.exists():
        pytest.skip(f"{name} is not at {root}; set DEEPCHIP_DATA to the folder that holds it")
    return path


def patient(seconds: float) -> float:
    """Return how long to wait for what takes so many seconds, at most, on a PC of today."""
    return seconds * PATIENCE


def needs_threads_after_fork() -> None:
    """Skip the test where a process that was forked beside other threads cannot start any.

    QEMU's emulation of Linux ends such a process, or lets it take memory without an end.
    """
    if not _ends_well(_THREAD_AFTER_FORK):
        pytest.skip("a forked process cannot start threads here, as under QEMU")


def needs_memory_limits() -> None:
    """Skip the test where a limit of a process's memory is not kept, as QEMU's emulation does."""
    if not _ends_well(_MEMORY_LIMIT):
        pytest.skip("limits of memory are not kept here, as under QEMU")


def needs_handled_signals() -> None:
    """Skip the test where /proc says of signals that a process handles them before it does.

    QEMU's emulation handles them all itself.
    """
    if not _ends_well(_NO_HANDLED_SIGNAL):
        pytest.skip("which signals a process handles is not to be seen here, as under QEMU")


def needs_memory_of_ended_threads() -> None:
    """Skip the test where threads that ended leave memory behind, as QEMU's emulation does."""
    if not _ends_well(_ENDED_THREADS):
        pytest.skip("threads that ended leave memory behind here, as under QEMU")


@cache
def _ends_well(code: str) -> bool:
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


_THREAD_AFTER_FORK = """
import os, threading
stop = threading.Event()
other = threading.Thread(target=stop.wait)
other.start()
child = os.fork()
if child == 0:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    os._exit(0)
status = os.waitpid(child, 0)[1]
stop.set()
other.join()
raise SystemExit(status != 0)
"""
_ENDED_THREADS = """
import threading
def resident():
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[1])
def start(count):
    for _ in range(count):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
start(20)
pages = resident()
start(100)
raise SystemExit(resident() - pages > 1000)
"""
_MEMORY_LIMIT = """
import mmap, resource
for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
    resource.setrlimit(kind, (2**30, resource.RLIM_INFINITY))
    try:
        mmap.mmap(-1, 2**31, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        raise SystemExit(1)
"""
_NO_HANDLED_SIGNAL = """
import signal
with open("/proc/self/status") as lines:
    (mask,) = [int(line.split()[1], 16) for line in lines if line.startswith("SigCgt")]
raise SystemExit(mask >> (signal.SIGTERM - 1) & 1)
"""
