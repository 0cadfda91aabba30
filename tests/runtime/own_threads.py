"""What tests of threads share: which threads are ours, and a watch over each test."""

from __future__ import annotations

import faulthandler
import gc
import threading
import time

import pytest


def names():
    """The names of our threads that live."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("deepchip-")]


@pytest.fixture
def watch():
    """Begin when threads of earlier tests have ended, and say where each is rather than hang."""
    faulthandler.dump_traceback_later(300, exit=True)
    gc.collect()
    deadline = time.monotonic() + 10
    while names() and time.monotonic() < deadline:  # dismissed, and about to end
        time.sleep(0.01)
    yield
    faulthandler.cancel_dump_traceback_later()
