"""Convolution over planes [N, C, H, W]: whole runs of output pixels at a time.

At stride 1 all output pixels of a channel are one run over the padded plane, the few pixels between
the rows computed and thrown away; at other strides every output row is a run. Adding one input
element to a run is one loop over contiguous memory, which the compiler turns into vector code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization, Shape, Tensor
from deepchip.formats.jit import jit
from deepchip.runtime.arrays import for_kernels
from deepchip.runtime.kernels.plain.planes import pad
from deepchip.runtime.kernels.plain.reduce import scaling
from deepchip.runtime.kernels.window import Window

from .conv_codes import MAX_INPUTS, conv_codes
from .elementwise import to_codes
from .segments import Segments

Array = NDArray[Any]

TILE = 1024
"""Pixels of a run that are summed at a time: their sums stay in the first-level cache."""


@dataclass(frozen=True)
class Runs:
    """Where a window's output pixels lie on the padded plane.

    Attributes
    ----------
    pitch : elements from one row of the plane to the next
    plane : elements of one channel
    count, length, stride, step : `count` runs of `length` pixels; a run starts `stride` elements
        after the one before, a pixel `step` elements
    width, columns : of the `width` pixels from one output row to the next, `columns` are wanted
    """

    pitch: int
    plane: int
    count: int
    length: int
    stride: int
    step: int
    width: int
    columns: int

    @classmethod
    def of(cls, window: Window, shape: Shape) -> Runs:
        """Return the runs of a window over items of shape (C, H, W)."""
        height, pitch = window.padded(*shape[1:])
        (rows, columns), (down, right) = window.outputs, window.strides
        if down == right == 1:
            length = (rows - 1) * pitch + columns
            return cls(pitch, height * pitch, 1, length, 0, 1, pitch, columns)
        return cls(pitch, height * pitch, rows, columns, down * pitch, right, columns, columns)

    def offsets(self, window: Window, channels: int) -> NDArray[np.int32]:
        """Return where each of a row's K = channels * kh * kw inputs lies for the first pixel."""
        c, i, j = np.indices((channels, *window.kernel)).reshape(3, -1)
        down, right = window.dilations
        return (c * self.plane + i * down * self.pitch + j * right).astype(np.int32)


def conv(
    weight: Tensor,
    bias: NDArray[np.float32] | None,
    window: Window,
    groups: int,
    shape: Shape,
    reads: Quantization | None,
    gives: Quantization | None,
) -> Callable[[Array], Array]:
    """Return a function from inputs [N, *shape] to [N, M, OH, OW]; see `plain.conv`."""
    outputs, channels = weight.shape[:2]
    inputs = channels * window.kernel[0] * window.kernel[1]
    if isinstance(weight, LevelWeights) and reads is not None and inputs <= MAX_INPUTS:
        return conv_codes(weight, bias, window, groups, shape, reads, gives)
    runs = Runs.of(window, shape)
    offsets = runs.offsets(window, channels)
    group = np.arange(outputs) // (outputs // groups)
    starts = (group * channels * runs.plane).astype(np.int32)
    zero_point = 0 if reads is None else reads.zero_point
    geometry = (runs.count, runs.length, runs.stride, runs.step, runs.width, runs.columns)

    if isinstance(weight, LevelWeights):
        form = Segments.of(weight)
        factor, shift = scaling(weight, bias, reads, gives)
        where = offsets[form.columns]
        kernel = conv_level_floats if reads is None else conv_level_codes

        def multiply(plane: Array, y: NDArray[np.float32]) -> None:
            sums = np.empty(TILE, np.float32 if reads is None else np.int32)
            kernel(
                plane, form.rows, form.starts, form.levels, where, starts, factor, shift,
                zero_point, *geometry, sums, y,
            )  # fmt: skip
    else:
        rows = for_kernels(weight.reshape(outputs, -1))
        shift = np.zeros(outputs, np.float32) if bias is None else for_kernels(bias)

        def multiply(plane: Array, y: NDArray[np.float32]) -> None:
            conv_float(plane, rows, offsets, starts, shift, *geometry, y)

    def run(x: Array) -> Array:
        plane = np.ascontiguousarray(x) if not any(window.pads) else pad(x, window, zero_point)
        y = np.empty((len(x), outputs, *window.outputs), np.float32)
        multiply(plane.reshape(len(x), -1), y.reshape(len(x), outputs, -1))
        return y if gives is None else to_codes(y, gives)

    return run


def _conv_levels(
    x, rows, starts, levels, offsets, groups, factor, shift,
    zero_point, count, length, stride, step, width, columns, sums, out,
):  # fmt: skip
    """Sum each segment's inputs over a run of pixels, scale once by its level, add up the levels.

    Parameters
    ----------
    x : uint8 or float32 [N, C * plane], padded planes
    rows, starts, levels : as in `Segments`
    offsets : int32 [nnz], where each nonzero's input lies for the first pixel
    groups : int32 [M], where the row's group of channels starts
    factor, shift : float32 [M], see `plain.reduce.scaling`
    zero_point : code of 0.0; 0 for float32 inputs
    count, ..., columns : as in `Runs`
    sums : int32 or float32 [TILE], scratch
    out : float32 [N, M, OH * OW]

    Notes
    -----
    Schindler et al., ECML-PKDD 2018. Offsets are proven in range when the plan is made.
    """
    y = np.empty(sums.shape[0], np.float32)
    for n in range(x.shape[0]):
        for m in range(rows.shape[0] - 1):
            for r in range(count):
                first = 0
                while first < length:
                    tile = min(sums.shape[0], length - first)
                    y[:tile] = 0
                    for s in range(rows[m], rows[m + 1]):
                        sums[:tile] = 0
                        for e in range(starts[s], starts[s + 1]):
                            base = groups[m] + offsets[e] + r * stride + first * step
                            if step == 1:
                                seen = x[n, base : base + tile]
                                for i in range(tile):
                                    sums[i] += seen[i]
                            else:
                                seen = x[n, base : base + (tile - 1) * step + 1]
                                for i in range(tile):
                                    sums[i] += seen[i * step]
                        absent = zero_point * (starts[s + 1] - starts[s])
                        level = levels[s]
                        for i in range(tile):
                            y[i] += level * np.float32(sums[i] - absent)
                    for i in range(tile):
                        line, column = divmod(first + i, width)
                        if column < columns:
                            out[n, m, (r + line) * columns + column] = y[i] * factor[m] + shift[m]
                    first += tile


_ARGUMENTS = (
    "void({0}[:, ::1], int32[::1], int32[::1], float32[::1], int32[::1], int32[::1], "
    "float32[::1], float32[::1], int64, int64, int64, int64, int64, int64, int64, {1}[::1], "
    "float32[:, :, ::1])"
)
conv_level_codes = jit(_ARGUMENTS.format("uint8", "int32"))(_conv_levels)
conv_level_floats = jit(_ARGUMENTS.format("float32", "float32"))(_conv_levels)


@jit(
    "void(float32[:, ::1], float32[:, ::1], int32[::1], int32[::1], float32[::1], "
    "int64, int64, int64, int64, int64, int64, float32[:, :, ::1])"
)
def conv_float(x, weight, offsets, groups, bias, count, length, stride, step, width, columns, out):
    """Multiply and add, a run of pixels at a time; see `_conv_levels`, weight float32 [M, K]."""
    y = np.empty(TILE, np.float32)
    for n in range(x.shape[0]):
        for m in range(weight.shape[0]):
            for r in range(count):
                first = 0
                while first < length:
                    tile = min(TILE, length - first)
                    y[:tile] = 0
                    for k in range(weight.shape[1]):
                        factor = weight[m, k]
                        base = groups[m] + offsets[k] + r * stride + first * step
                        if step == 1:
                            seen = x[n, base : base + tile]
                            for i in range(tile):
                                y[i] += factor * seen[i]
                        else:
                            seen = x[n, base : base + (tile - 1) * step + 1]
                            for i in range(tile):
                                y[i] += factor * seen[i * step]
                    for i in range(tile):
                        line, column = divmod(first + i, width)
                        if column < columns:
                            out[n, m, (r + line) * columns + column] = y[i] + bias[m]
                    first += tile
