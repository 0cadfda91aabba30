"""Convolution over planes [C, H, W]: whole runs of output pixels at a time.

At stride 1 all output pixels of a channel are one run over the padded plane, the few pixels between
the rows computed and thrown away; at other strides every output row is a run. Adding one input
element to a run is one loop over contiguous memory, which the compiler turns into vector code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization, Shape, Tensor
from deepchip.formats.jit import Kernel, kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.kernels.plain.reduce import scaling
from deepchip.runtime.kernels.window import Window
from deepchip.runtime.program import Assembler

from .frame import FRAME, PLACE, codes, floats, integers, layout, share
from .moves import pad
from .segments import Segments

TILE = 1024
"""Pixels of a run that are summed at a time: their sums stay in the first-level cache."""

_RUNS = {
    "source": PLACE, "target": PLACE, "outputs": "i8", "inputs": "i8", "pixels": "i8",
    "offsets": PLACE, "groups": PLACE, "shift": PLACE, "count": "i8", "length": "i8",
    "stride": "i8", "step": "i8", "width": "i8", "columns": "i8",
}  # fmt: skip
DENSE = layout(**_RUNS, weight=PLACE, each="i8")
"""A layer over items of `inputs` elements, padded planes, to `outputs` channels of `pixels`.

Attributes
----------
weight : float32 [outputs, each]
offsets : int32 [each], where each input of a row lies for the first pixel
groups : int32 [outputs], where the row's group of channels starts
shift : float32 [outputs], the bias
count, ..., columns : as in `Runs`
"""
LEVELS = layout(
    **_RUNS, segments="i8", nonzeros="i8", rows=PLACE, starts=PLACE, levels=PLACE,
    zero_point="i8",
)  # fmt: skip
"""As `DENSE`, but for

Attributes
----------
rows, starts, levels : as in `Segments`, of which there are `segments` of `nonzeros`
offsets : int32 [nonzeros], where each nonzero's input lies for the first pixel
shift : float32 [outputs], see `plain.reduce.scaling`
zero_point : code of 0.0; 0 for float32 inputs
"""


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


def emit(
    assembler: Assembler,
    weight: Tensor,
    bias: NDArray[np.float32] | None,
    window: Window,
    groups: int,
    shape: Shape,
    reads: Quantization | None,
    gives: Quantization | None,
    source: Buffer,
    target: Buffer,
) -> None:
    """Emit a layer from items of `shape` to float32 [M, OH, OW], over the scale of `gives`.

    See `plain.conv`. Sums of codes are exact.
    """
    outputs, channels = weight.shape[:2]
    runs = Runs.of(window, shape)
    group = np.arange(outputs) // (outputs // groups)
    offsets = runs.offsets(window, channels)
    fields: dict[str, Any] = {
        "source": _padded(assembler, source, shape, window, reads), "target": target,
        "outputs": outputs, "inputs": shape[0] * runs.plane,
        "pixels": window.outputs[0] * window.outputs[1],
        "groups": assembler.constant((group * channels * runs.plane).astype(np.int32)),
        "count": runs.count, "length": runs.length, "stride": runs.stride, "step": runs.step,
        "width": runs.width, "columns": runs.columns, "scratch": 8 * TILE,
    }  # fmt: skip
    if not isinstance(weight, LevelWeights):
        shift = np.zeros(outputs) if bias is None else bias
        assembler.emit(
            multiply_floats, reason="float weights", cost=weight.size * fields["pixels"] / 10,
            offsets=assembler.constant(offsets), shift=assembler.floats(shift),
            weight=assembler.floats(weight), each=len(offsets), **fields,
        )  # fmt: skip
        return
    levels, shift = scaling(weight, bias, reads, gives)
    form = Segments.of(weight, levels)
    add: Kernel = add_floats if reads is None else add_codes
    assembler.emit(
        add, reason="float inputs" if reads is None else "rows of very many inputs",
        cost=len(form.columns) * fields["pixels"] / 8,
        offsets=assembler.constant(offsets[form.columns]), shift=assembler.floats(shift),
        segments=len(form.levels), nonzeros=len(form.columns), rows=assembler.constant(form.rows),
        starts=assembler.constant(form.starts), levels=assembler.floats(form.levels),
        zero_point=reads.zero_point if reads else 0, **fields,
    )  # fmt: skip


def _padded(
    assembler: Assembler, source: Buffer, shape: Shape, window: Window, reads: Quantization | None
) -> Buffer:
    """Return planes that hold every place of the window, what pads them standing for 0.0."""
    channels, height, width = shape
    rows, pitch = window.padded(height, width)
    if (rows, pitch) == (height, width):
        return source
    each = 4 if reads is None else 1
    planes = assembler.buffer(channels * rows * pitch * each)
    assembler.emit(
        pad, source=source, target=planes, channels=channels, height=height, width=width * each,
        top=window.pads[0], left=window.pads[1] * each, rows=rows, pitch=pitch * each,
        fill=0 if reads is None else reads.zero_point,
    )  # fmt: skip
    return planes


@register_jitable
def _add(sums, x, step):
    """Add the elements of x, `step` apart."""
    if step == 1:
        for i in range(len(sums)):
            sums[i] += x[i]
    else:
        for i in range(len(sums)):
            sums[i] += x[i * step]


@register_jitable
def _multiply_add(sums, x, step, factor):
    """Add the elements of x, `step` apart, times a factor."""
    if step == 1:
        for i in range(len(sums)):
            sums[i] += factor * x[i]
    else:
        for i in range(len(sums)):
            sums[i] += factor * x[i * step]


@register_jitable
def _finish(operation, place, run, first, y):
    """Store the pixels of a tile that are wanted."""
    width, columns = operation.width, operation.columns
    out = floats(place, operation.pixels)
    i = 0
    while i < len(y):
        line, column = divmod(first + i, width)
        count = min(columns - column, len(y) - i)
        start = (run + line) * columns + column
        for k in range(count):
            out[start + k] = y[i + k]
        i += width - column


@kernel(DENSE, FRAME)
def multiply_floats(operations, frames):
    """Multiply and add, a run of pixels at a time."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    outputs, each, step = operation.outputs, operation.each, operation.step
    weight = floats(operation.weight, outputs * each)
    offsets = integers(operation.offsets, each)
    groups = integers(operation.groups, outputs)
    shift = floats(operation.shift, outputs)
    first_row, last_row = share(frame.images * outputs, frame)
    for row in range(first_row, last_row):
        n, m = row // outputs, row % outputs
        source = frame.arena + operation.source + 4 * n * operation.inputs
        place = frame.arena + operation.target + 4 * row * operation.pixels
        for run in range(operation.count):
            for first in range(0, operation.length, TILE):
                tile = min(TILE, operation.length - first)
                y = floats(frame.scratch, tile)
                y[:] = shift[m]
                start = groups[m] + run * operation.stride + first * step
                for k in range(each):
                    x = floats(source + 4 * (start + offsets[k]), tile * step)
                    _multiply_add(y, x, step, weight[m * each + k])
                _finish(operation, place, run, first, y)


@register_jitable
def _add_segments(operation, frame, view, bytes_each, sums_view, number):
    """Sum each segment's inputs over a run of pixels, scale once by its level, add up the levels.

    Notes
    -----
    Schindler et al., ECML-PKDD 2018. Offsets are proven in range when the plan is made.
    """
    outputs, inputs, step = operation.outputs, operation.inputs, operation.step
    rows = integers(operation.rows, outputs + 1)
    starts = integers(operation.starts, operation.segments + 1)
    levels = floats(operation.levels, operation.segments)
    offsets = integers(operation.offsets, operation.nonzeros)
    groups = integers(operation.groups, outputs)
    shift = floats(operation.shift, outputs)
    first_row, last_row = share(frame.images * outputs, frame)
    for row in range(first_row, last_row):
        n, m = row // outputs, row % outputs
        source = frame.arena + operation.source + bytes_each * n * inputs
        place = frame.arena + operation.target + 4 * row * operation.pixels
        for run in range(operation.count):
            for first in range(0, operation.length, TILE):
                tile = min(TILE, operation.length - first)
                y = floats(frame.scratch, tile)
                sums = sums_view(frame.scratch + 4 * TILE, tile)
                y[:] = shift[m]
                start = groups[m] + run * operation.stride + first * step
                for s in range(rows[m], rows[m + 1]):
                    sums[:] = 0
                    for e in range(starts[s], starts[s + 1]):
                        x = view(source + bytes_each * (start + offsets[e]), tile * step)
                        _add(sums, x, step)
                    absent = number(operation.zero_point * (starts[s + 1] - starts[s]))
                    level = levels[s]
                    for i in range(tile):
                        y[i] += level * np.float32(sums[i] - absent)
                _finish(operation, place, run, first, y)


@kernel(LEVELS, FRAME)
def add_codes(operations, frames):
    """Compute a layer of levels over codes."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    _add_segments(operation, frame, codes, 1, integers, np.int32)


@kernel(LEVELS, FRAME)
def add_floats(operations, frames):
    """Compute a layer of levels over float32 inputs."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    _add_segments(operation, frame, floats, 4, floats, np.float32)
