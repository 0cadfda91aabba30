"""Memory of the process, as the kernel counts it."""

from __future__ import annotations

import mmap
import subprocess
import sys

import numpy as np

from deepchip.runtime.memory import peak_resident, resident

MB = 2**20


def test_what_is_touched_is_resident_and_stays_in_the_peak():
    fresh = mmap.mmap(-1, 64 * MB)  # an array could be given memory that was held already
    before = resident()
    np.frombuffer(fresh, np.uint8)[:] = 1
    during = resident()
    assert 60 * MB < during - before < 80 * MB
    assert peak_resident() > during - 2 * MB  # Linux counts pages in batches


def test_the_peak_is_not_that_of_the_parent():
    """A process of its own, small beside this one once it has held 600 MB."""
    np.frombuffer(mmap.mmap(-1, 600 * MB), np.uint8)[:] = 1
    code = "from deepchip.runtime.memory import peak_resident; print(peak_resident())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 300 * MB
