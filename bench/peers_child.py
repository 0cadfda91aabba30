"""Loads one network in one runtime, runs it once, says so, and prints the memory that this took.

    python bench/peers_child.py RUNTIME FILE THREADS N,C,H,W

`peers.py` starts it: a line 'ready' once the first result is there, then the peak of the process's
memory in bytes.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
from peers_runtimes import RUNTIMES


def peak_memory() -> int:
    """Return the most bytes of this process that were in memory at a time.

    Linux hands the peak that getrusage knows on from the process that started this one, so its own
    is read from /proc.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Load, run, report."""
    runtime, path, threads, shape = sys.argv[1:]
    sizes = tuple(map(int, shape.split(",")))
    run = RUNTIMES[runtime](Path(path), int(threads), sizes)
    run(np.zeros(sizes, np.float32))
    print("ready", flush=True)
    print(peak_memory())


if __name__ == "__main__":
    main()
