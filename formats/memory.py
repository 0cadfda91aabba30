"""Memory that is looked for before it is needed.

NumPy and Python say so where memory is short. LLVM, OpenBLAS and a half-loaded library end the
process instead, so there has to be enough before they are entered.
"""

from __future__ import annotations

import mmap

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


def shortage(size: int, purpose: str, remedy: str) -> OutOfMemoryError:
    """Return the error that `purpose` takes `size` bytes, which cannot be had."""
    return OutOfMemoryError(f"out of memory: {purpose} takes {-(-size // MB):,} MB more; {remedy}")
