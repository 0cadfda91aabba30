"""Runs a network once, then once more between two marks that the emulated Pi knows.

    python bench/pi_child.py RUNTIME FILE N,C,H,W

`pi.py` starts it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import numpy as np
from peers_runtimes import RUNTIMES


def mark(part: int) -> None:
    """Start a part that is counted (0), or end part number `part`: a system call that fails."""
    with contextlib.suppress(OSError):
        os.getpriority(0x7069, part)


def main() -> None:
    """Load, run, count."""
    runtime, path, shape = sys.argv[1:]
    sizes = tuple(map(int, shape.split(",")))
    run = RUNTIMES[runtime](Path(path), 1, sizes)
    images = np.random.default_rng(0).random(sizes, np.float32)
    run(images)
    mark(0)
    run(images)
    mark(1)


if __name__ == "__main__":
    main()
