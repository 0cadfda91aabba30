"""Convolution over planes [N, C, H, W]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization, Shape, Tensor
from deepchip.runtime.kernels.window import Window

from .planes import Array, columns, pad
from .reduce import reduce_and_scale


def conv(
    weight: Tensor,
    bias: NDArray[np.float32] | None,
    window: Window,
    groups: int,
    shape: Shape,
    quantization: Quantization | None,
) -> Callable[[Array], NDArray[np.float32]]:
    """Return a function from inputs [N, *shape] to float32 [N, M, OH, OW].

    Parameters
    ----------
    weight : of shape (M, C / groups, kh, kw)
    quantization : what uint8 inputs mean, for weights of levels; None for float32 inputs
    """
    shift = np.float32(0) if bias is None else bias[:, None]
    fill = 0 if quantization is None else quantization.zero_point
    if isinstance(weight, LevelWeights):
        multiply = reduce_and_scale(weight, quantization, groups)
    else:
        rows = weight.reshape(groups, len(weight) // groups, -1)

        def multiply(x: Array) -> NDArray[np.float32]:
            return (rows @ x).reshape(len(x), len(weight), -1)

    def run(x: Array) -> NDArray[np.float32]:
        y = multiply(columns(pad(x, window, fill), window, groups)) + shift
        return y.reshape(len(x), weight.shape[0], *window.outputs)

    return run
