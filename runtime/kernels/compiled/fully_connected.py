"""Fully connected layers over vectors [N, K]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization, Tensor
from deepchip.formats.jit import jit
from deepchip.runtime.arrays import for_kernels
from deepchip.runtime.kernels.plain.reduce import scaling

from .elementwise import to_codes
from .fully_connected_codes import fully_connected_codes, worth_planes
from .segments import Segments

Array = NDArray[Any]


def fully_connected(
    weight: Tensor,
    bias: NDArray[np.float32] | None,
    reads: Quantization | None,
    gives: Quantization | None,
) -> Callable[[Array], Array]:
    """Return a function from inputs [N, K] to [N, M]; see `plain.fully_connected`."""
    outputs = weight.shape[0]
    if isinstance(weight, LevelWeights) and reads and worth_planes(weight):
        multiply_codes = fully_connected_codes(weight, bias, reads, gives)
        if gives is None:
            return multiply_codes
        return lambda x: to_codes(multiply_codes(x), gives)
    if isinstance(weight, LevelWeights):
        form = Segments.of(weight)
        factor, shift = scaling(weight, bias, reads, gives)
        levels = (form.rows, form.starts, form.levels, form.columns, factor, shift)

        def multiply(x: Array, y: NDArray[np.float32]) -> None:
            if reads is None:
                fully_connected_level_floats(x, *levels, y)
            else:
                fully_connected_level_codes(x, *levels, reads.zero_point, y)
    else:
        transposed = for_kernels(weight.T)
        shift = np.zeros(outputs, np.float32) if bias is None else for_kernels(bias)

        def multiply(x: Array, y: NDArray[np.float32]) -> None:
            fully_connected_float(x, transposed, shift, y)

    def run(x: Array) -> Array:
        y = np.empty((len(x), outputs), np.float32)
        multiply(np.ascontiguousarray(x), y)
        return y if gives is None else to_codes(y, gives)

    return run


@jit(
    "void(uint8[:, ::1], int32[::1], int32[::1], float32[::1], int32[::1], float32[::1], "
    "float32[::1], int64, float32[:, ::1])"
)
def fully_connected_level_codes(x, rows, starts, levels, columns, factor, shift, zero_point, out):
    """Sum each segment's codes exactly, then scale once by its level.

    Parameters
    ----------
    x : uint8 [N, K]
    rows, starts, levels, columns : as in `Segments`
    factor, shift : float32 [M], see `plain.reduce.scaling`
    zero_point : code of 0.0
    out : float32 [N, M]
    """
    for n in range(x.shape[0]):
        codes = x[n]
        for m in range(out.shape[1]):
            y = np.float32(0)
            for s in range(rows[m], rows[m + 1]):
                total = np.int64(0)
                for column in columns[starts[s] : starts[s + 1]]:
                    total += codes[column]
                absent = zero_point * (starts[s + 1] - starts[s])
                y += levels[s] * np.float32(total - absent)
            out[n, m] = y * factor[m] + shift[m]


@jit(
    "void(float32[:, ::1], int32[::1], int32[::1], float32[::1], int32[::1], float32[::1], "
    "float32[::1], float32[:, ::1])"
)
def fully_connected_level_floats(x, rows, starts, levels, columns, factor, shift, out):
    """As for codes, over float32 [N, K]."""
    for n in range(x.shape[0]):
        values = x[n]
        for m in range(out.shape[1]):
            y = np.float32(0)
            for s in range(rows[m], rows[m + 1]):
                total = np.float32(0)
                for column in columns[starts[s] : starts[s + 1]]:
                    total += values[column]
                y += levels[s] * total
            out[n, m] = y * factor[m] + shift[m]


@jit("void(float32[:, ::1], float32[:, ::1], float32[::1], float32[:, ::1])")
def fully_connected_float(x, weight, bias, out):
    """Multiply and add; weight [K, M], so that the inner loop runs over contiguous outputs."""
    for n in range(x.shape[0]):
        y = out[n]
        y[:] = 0
        for k in range(weight.shape[0]):
            factor = x[n, k]
            row = weight[k]
            for m in range(row.shape[0]):
                y[m] += factor * row[m]
        for m in range(y.shape[0]):
            y[m] += bias[m]
