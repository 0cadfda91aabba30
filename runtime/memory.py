"""How much memory this process holds."""

from __future__ import annotations

import os
import resource
import sys


def resident() -> int:
    """Return the bytes of this process that are in memory now."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: the peak is the nearest there is
        return peak_resident()


def peak_resident() -> int:
    """Return the most bytes of this process that were in memory at a time."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            # Unlike ru_maxrss, not inherited from the process that started this one.
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
