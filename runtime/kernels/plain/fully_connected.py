"""Fully connected layers over vectors [N, K]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization, Tensor

from .planes import Array
from .reduce import reduce_and_scale


def fully_connected(
    weight: Tensor, bias: NDArray[np.float32] | None, quantization: Quantization | None
) -> Callable[[Array], NDArray[np.float32]]:
    """Return a function from inputs [N, K] to float32 [N, M]; `weight` has shape (M, K)."""
    if isinstance(weight, LevelWeights):
        reduce = reduce_and_scale(weight, quantization)

        def multiply(x: Array) -> NDArray[np.float32]:
            return reduce(x.T[None, None])[0].T

    else:

        def multiply(x: Array) -> NDArray[np.float32]:
            return x @ weight.T

    shift = np.float32(0) if bias is None else bias
    return lambda x: multiply(x) + shift
