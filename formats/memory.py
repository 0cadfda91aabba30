"""Memory that is looked for before it is needed, or given back as soon as it is not.

NumPy and Python say so where memory is short. LLVM, OpenBLAS and a half-loaded library end the
process instead, so there has to be enough before they are entered.
"""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

from .errors import OutOfMemoryError

MB = 2**20


def require(size: int, purpose: str, remedy: str) -> None:
    """Make sure that `size` more bytes can be had now: map them, and let them go untouched.

    Raises
    ------
    OutOfMemoryError
        They cannot; the text names `size`, `purpose` and `remedy`.
    """
    try:
        # Not by malloc, which would keep more of what is freed from then on.
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError, OverflowError):
        raise shortage(size, purpose, remedy) from None


def pages(size: int) -> NDArray[np.uint8]:
    """Return uint8 [size], of one or more zeros, in pages that the system has back with the array.

    Malloc takes more and more of what is large from its heap, where what stays keeps what was freed
    before it from being given back.

    Raises
    ------
    MemoryError
        There is not enough.
    """
    try:
        held = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError):
        raise MemoryError(f"no {size} bytes of memory") from None
    return np.frombuffer(held, np.uint8)


def shortage(size: int, purpose: str, remedy: str) -> OutOfMemoryError:
    """Return the error that `purpose` takes `size` bytes, which cannot be had."""
    return OutOfMemoryError(f"out of memory: {purpose} takes {-(-size // MB):,} MB more; {remedy}")
