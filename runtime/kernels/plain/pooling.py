"""Maximum and average over windows of planes [N, C, H, W]."""

from __future__ import annotations

from collections.abc import Callable
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
    elements, divisors = (
        [counts(shape, window, axis, pads) for axis in (0, 1)]
        for pads in (False, count_include_pad)
    )

    def divisor() -> Array:
        return np.outer(*divisors).astype(np.float32)

    def of_floats(x: Array) -> NDArray[np.float32]:
        return np.divide(sum_windows(pad(x, window, 0), window), divisor(), dtype=np.float32)

    if quantization is None:
        return of_floats
    scale, zero_point = np.float32(quantization.scale), quantization.zero_point

    def of_codes(x: Array) -> NDArray[np.float32]:
        sums = sum_windows(pad(x.astype(np.int64), window, 0), window)
        sums -= zero_point * np.outer(*elements)
        averages: Array = scale * sums.astype(np.float32) / divisor()
        return averages

    return of_codes


def counts(shape: Shape, window: Window, axis: int, pads: bool) -> NDArray[np.int64]:
    """Return how many elements each place of a window has along the `axis`-th side of a plane.

    Pads count if `pads` says so; what rounding up adds beyond the pads never does. A window has as
    many elements as the product of both sides: it always has one.
    """
    size, step, dilation = shape[1 + axis], window.strides[axis], window.dilations[axis]
    before, after = window.pads[axis], window.pads[2 + axis]
    start = np.arange(window.outputs[axis]) * step - before
    low, high = (-before, size + after) if pads else (0, size)
    first = np.maximum(0, -((start - low) // dilation))
    behind = np.minimum(window.kernel[axis], (high - 1 - start) // dilation + 1)
    return behind - first


def sum_windows(plane: Array, window: Window) -> Array:
    """Return the sum of each window of a padded plane, element by element: [N, C, OH, OW]."""
    total = np.zeros((*plane.shape[:2], *window.outputs), plane.dtype)
    for i, j in product(*map(range, window.kernel)):
        total += element(plane, window, i, j)
    return total
