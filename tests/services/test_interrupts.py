"""Ctrl-C and time-outs by signal in the middle of calls."""

from __future__ import annotations

import random
import signal
import threading
import time

import pytest

from deepchip.runtime.memory import resident
from tests.checks import patient

from .calls import Calls, helpers
from .child import run


def interrupted(seconds):
    """A main thread that is interrupted again and again, while another thread calls too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    calls = Calls()
    model = calls.load(threads=3)
    ready, over = threading.Event(), threading.Event()
    delays = random.Random(1)

    def press():
        while not over.is_set():
            if ready.wait(1):
                time.sleep(delays.uniform(0, 0.004))
                ready.clear()
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def beside():
        while not over.is_set():
            calls.call(model, 2, 2)
            time.sleep(0.01)

    def work():
        """Return how often calls were interrupted until the deadline, and how often not in time."""
        count = missed = 0
        while time.monotonic() < deadline:
            patience = time.monotonic() + patient(2)
            try:
                ready.set()
                while time.monotonic() < patience:
                    calls.call(model, count % 20, 1 + count % 3)
                missed += 1
            except KeyboardInterrupt:
                count += 1
        return count, missed

    others = [threading.Thread(target=one) for one in (press, beside)]
    for other in others:
        other.start()
    deadline = time.monotonic() + seconds / 5
    work()
    before = resident()
    deadline = time.monotonic() + seconds
    count, missed = work()
    grown = resident() - before
    over.set()
    for other in others:
        other.join()
    many = len(helpers())
    model.close()
    begin = time.process_time()
    time.sleep(0.5)
    return {
        "interrupts": count,
        "missed": missed,
        "calls": calls.made,
        "grown": grown,
        "threads": many,
        "busy": time.process_time() - begin,
        "left": ended(),
    }


def ended():
    """How many helpers are left after a while: those of interrupted calls are not waited for."""
    deadline = time.monotonic() + 10
    while helpers() and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(helpers())


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_a_service_that_is_interrupted(seconds):
    found = run(interrupted, seconds * 2 + 120, seconds=patient(seconds))
    assert found["interrupts"] > 10 * seconds
    assert found["calls"] > found["interrupts"]
    assert found["grown"] < 8 * 2**20
    assert found["threads"] <= 8
    assert found["busy"] < 0.2  # nobody waits for one who went away
    assert found["left"] == 0


def called_by_a_handler():
    """A handler that calls the model, and one that closes it, in the middle of calls of it."""
    calls = Calls()
    model, other = calls.load(threads=2), calls.load(threads=2)
    handled = []

    def handle(*_):
        calls.call(model, 3, 2)
        other.close()
        handled.append(time.monotonic())

    signal.signal(signal.SIGUSR1, handle)
    deadline = time.monotonic() + 1.5
    me = threading.main_thread().ident
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(me, signal.SIGUSR1))
    timer.start()
    refused = 0
    while time.monotonic() < deadline:
        calls.call(model, 0, 5)
        try:
            calls.call(other, 0, 3)
        except ValueError:
            refused += 1
    model.close()
    return {"handled": len(handled), "refused": refused, "left": ended()}


def test_a_signal_handler_calls_and_closes_models():
    found = run(called_by_a_handler, 120)
    assert found["handled"] == 1
    assert found["refused"] > 5
    assert found["left"] == 0
