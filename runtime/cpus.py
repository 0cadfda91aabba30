"""Which processor a thread runs on, and how those that share a call are kept apart."""

from __future__ import annotations

import ctypes
import os

try:
    # With the interpreter's lock held: letting go of it would take longer than the call.
    _now = ctypes.PyDLL(None).sched_getcpu if hasattr(os, "sched_setaffinity") else None
except (AttributeError, OSError):
    _now = None


def current() -> int:
    """Return the number of the processor that this thread is on, or -1 where none is told."""
    return -1 if _now is None else int(_now())


def keep_apart(taken: list[int]) -> None:
    """Leave a processor that another thread of a call is on, and add this thread's to `taken`.

    Linux may wake a thread where the one that wakes it runs, though others are idle, and leave
    both there for tens of milliseconds: they then take turns, and wait for each other. This thread
    moves, where it is allowed to run elsewhere, and may run where it was allowed to ever after.
    """
    if _now is None:
        return
    cpu = current()
    if cpu in taken:
        try:
            allowed = os.sched_getaffinity(0)
            if elsewhere := allowed.difference(taken):
                os.sched_setaffinity(0, elsewhere)
                cpu = current()
                os.sched_setaffinity(0, allowed)
        except OSError:  # not allowed, or allowed no longer: it is as fast as Linux lets it be
            pass
    taken.append(cpu)
