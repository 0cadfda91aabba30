"""Products of matrices, by NumPy's BLAS."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.memory import MB, require

BUFFER = 48 * MB
"""What OpenBLAS maps for a call on another thread than before: 33 MB. It ends the process if it
cannot."""


def matmul(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Return a @ b, of stacks of matrices of one dtype.

    Raises
    ------
    OutOfMemoryError
        There is not enough for the library.
    """
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    out = np.empty((*stack, a.shape[-2], b.shape[-1]), a.dtype)
    require(BUFFER + b.nbytes, "a product of matrices", "use smaller batches or fewer threads")
    return np.matmul(a, b, out=out)
