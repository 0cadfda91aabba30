"""What a service is left with after many calls: memory, threads, files; and its CPU while idle."""

from __future__ import annotations

import gc
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from deepchip.runtime.memory import resident
from tests.checks import needs_memory_of_ended_threads

from .calls import ITEMS, Calls, helpers
from .child import run

KB = 2**10


def opened():
    """How many files this process holds open."""
    return len(os.listdir("/proc/self/fd"))


def many_calls(count):
    """Calls with batches of all sizes, from one to four threads at a time, of two models."""
    calls = Calls()
    models = [calls.load(threads) for threads in (1, 2)]

    def serve(turn):
        calls.call(models[turn % 2], turn * 7 % 19, 1 + turn % 5)
        if turn % 50 == 0:
            calls.call(models[turn // 50 % 2], 0, ITEMS)

    def serve_all(turns):
        for begin in range(turns.start, turns.stop, 100):
            with ThreadPoolExecutor(1 + begin // 100 % 4) as pool:
                list(pool.map(serve, range(begin, begin + 100)))

    together = threading.Barrier(4)

    def warm_up(_):
        for turn in range(60):  # most of the workspaces that four calls at a time will ever need
            together.wait()
            calls.call(models[turn % 2], 0, ITEMS)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(warm_up, range(4)))
    serve_all(range(1200))
    gc.collect()
    memory, files = resident(), opened()
    begin = time.monotonic()
    serve_all(range(count))
    seconds = time.monotonic() - begin
    gc.collect()
    return {
        "calls": calls.made,
        "seconds": round(seconds, 1),
        "grown_kb": (resident() - memory) // KB,
        "files": opened() - files,
        "threads": len(helpers()),
    }


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="memory is read from /proc")
@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_calls_leave_nothing_behind(count):
    found = run(many_calls, 120 + count // 100, count=count)
    assert found["calls"] > count
    assert found["grown_kb"] < 4096  # two or three more workspaces, which are kept
    assert found["files"] == 0
    assert found["threads"] == 1  # of the model with two threads; callers at a time share it


def many_models(count):
    """Models that are loaded, called, and closed or just dropped."""
    calls = Calls()

    def serve(turns):
        for turn in turns:
            model = calls.load(threads=1 + turn % 3)
            calls.call(model, turn % 20, 3)
            if turn % 2:
                model.close()

    serve(range(20))
    gc.collect()
    memory, files = resident(), opened()
    serve(range(count))
    gc.collect()
    deadline = time.monotonic() + 10
    while helpers() and time.monotonic() < deadline:  # of models that were dropped
        time.sleep(0.01)
    return {
        "grown_kb": (resident() - memory) // KB,
        "files": opened() - files,
        "left": len(helpers()),
    }


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="memory is read from /proc")
@pytest.mark.parametrize("count", [60, pytest.param(2_000, marks=pytest.mark.slow)])
def test_models_leave_nothing_behind(count):
    needs_memory_of_ended_threads()
    found = run(many_models, 120 + count, count=count)
    assert found["grown_kb"] < 4096
    assert found["files"] == 0
    assert found["left"] == 0


def idle(seconds):
    """The CPU time of a second in which models with threads wait for the next call."""
    calls = Calls()
    models = [calls.load(threads=4) for _ in range(2)]
    for model in models:
        calls.call(model, 0, 5)
    waiting = len(helpers())
    time.sleep(0.2)
    begin = time.process_time()
    time.sleep(seconds)
    return {"waiting": waiting, "busy_ms": (time.process_time() - begin) * 1000}


@pytest.mark.parametrize("seconds", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_models_take_no_cpu_between_calls(seconds):
    found = run(idle, seconds + 120, seconds=seconds)
    assert found["waiting"] == 6
    assert found["busy_ms"] < 20
