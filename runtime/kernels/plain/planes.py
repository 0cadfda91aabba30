"""Padding planes and looking at them through a window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.runtime.kernels.window import Window

Array = NDArray[Any]


def pad(x: Array, window: Window, fill: float) -> Array:
    """Return [N, C, Hp, Wp]: x [N, C, H, W] in a plane of `fill` that holds every window place."""
    n, channels, height, width = x.shape
    plane = np.full((n, channels, *window.padded(height, width)), fill, x.dtype)
    top, left = window.pads[:2]
    plane[:, :, top : top + height, left : left + width] = x
    return plane


def element(plane: Array, window: Window, i: int, j: int) -> Array:
    """Return [N, C, OH, OW]: what element (i, j) of the window sees at each of its places."""
    (oh, ow), (sv, sh), (dv, dh) = window.outputs, window.strides, window.dilations
    rows = slice(i * dv, i * dv + (oh - 1) * sv + 1, sv)
    columns = slice(j * dh, j * dh + (ow - 1) * sh + 1, sh)
    return plane[:, :, rows, columns]


def columns(plane: Array, window: Window, groups: int) -> Array:
    """Return [N, groups, K, P]: for each of P places the K inputs of a row of weights (im2col)."""
    n, channels = plane.shape[:2]
    kernel = window.kernel
    seen = np.stack(
        [element(plane, window, i, j) for i in range(kernel[0]) for j in range(kernel[1])], axis=2
    )
    return seen.reshape(n, groups, channels // groups * kernel[0] * kernel[1], -1)
