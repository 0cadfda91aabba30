"""Maximum and average over windows of planes [N, C, H, W]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import Quantization, Shape
from deepchip.runtime.kernels.window import Window

from .planes import Array, element, pad


def max_pool(window: Window) -> Callable[[Array], Array]:
    """Return a function from [N, C, H, W] to the largest of each window, [N, C, OH, OW].

    It keeps the dtype, float32 or uint8, and passes over NaN.
    """

    def run(x: Array) -> Array:
        lowest = -np.inf if x.dtype == np.float32 else 0
        plane = pad(x, window, lowest)
        best = np.full((*x.shape[:2], *window.outputs), lowest, x.dtype)
        for i, j in product(*map(range, window.kernel)):
            seen = element(plane, window, i, j)
            best = np.where(seen > best, seen, best)
        return best

    return run


def average_pool(
    shape: Shape, window: Window, quantization: Quantization | None, count_include_pad: bool
) -> Callable[[Array], NDArray[np.float32]]:
    """Return a function from [N, *shape] to the average of each window, float32 [N, C, OH, OW].

    Codes are summed exactly: average = scale * (S - zero_point * n) / divisor, in this order;
    float32 elements are added in the order of the window.
    """
    elements, divisor = counts(shape, window, count_include_pad)

    def of_floats(x: Array) -> NDArray[np.float32]:
        return np.divide(sum_windows(pad(x, window, 0), window), divisor, dtype=np.float32)

    if quantization is None:
        return of_floats
    scale, zero_point = np.float32(quantization.scale), quantization.zero_point

    def of_codes(x: Array) -> NDArray[np.float32]:
        sums = sum_windows(pad(x.astype(np.int32), window, 0), window) - zero_point * elements
        return (scale * sums.astype(np.float32)) / divisor

    return of_codes


def counts(
    shape: Shape, window: Window, count_include_pad: bool
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return how many elements each window averages, and what their sum is divided by: [OH, OW].

    Pads count in the divisor if told so; what rounding up adds beyond the pads never does.
    """
    inside = np.ones((1, 1, *shape[1:]), np.int32)
    elements = sum_windows(pad(inside, window, 0), window)[0, 0]
    if count_include_pad:
        top, left, bottom, right = window.pads
        inside = np.pad(inside, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=1)
        divisor = sum_windows(pad(inside, replace(window, pads=(0, 0, 0, 0)), 0), window)[0, 0]
    else:
        divisor = elements
    return elements, np.maximum(divisor, 1).astype(np.float32)


def sum_windows(plane: Array, window: Window) -> Array:
    """Return the sum of each window of a padded plane, element by element: [N, C, OH, OW]."""
    total = np.zeros((*plane.shape[:2], *window.outputs), plane.dtype)
    for i, j in product(*map(range, window.kernel)):
        total += element(plane, window, i, j)
    return total
