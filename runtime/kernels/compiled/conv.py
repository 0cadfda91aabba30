"""Convolution of rows of very many codes: whole runs of output pixels at a time.

At stride 1 all output pixels of a channel are one run over the padded plane, the few pixels between
the rows computed and thrown away; at other strides every output row is a run. Adding one input
element to a run is one loop over contiguous memory, which the compiler turns into vector code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import carray
from numba.extending import register_jitable
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization, Shape
from deepchip.formats.jit import kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.kernels.plain.reduce import scaling
from deepchip.runtime.kernels.window import Window
from deepchip.runtime.program import Assembler

from .borders import pad
from .frame import FRAME, PLACE, codes, floats, integers, layout, share
from .segments import Segments

TILE = 1024
"""Pixels of a run that are summed at a time: their sums stay in the first-level cache."""

LEVELS = layout(
    source=PLACE, target=PLACE, outputs="i8", inputs="i8", pixels="i8", offsets=PLACE,
    groups=PLACE, shift=PLACE, count="i8", length="i8", stride="i8", step="i8", width="i8",
    columns="i8", segments="i8", nonzeros="i8", rows=PLACE, starts=PLACE, levels=PLACE,
    zero_point="i8",
)  # fmt: skip
"""A layer over items of `inputs` codes, padded planes, to `outputs` channels of `pixels`.

Attributes
----------
rows, starts, levels : as in `Segments`, of which there are `segments` of `nonzeros`
offsets : int32 [nonzeros], where each nonzero's input lies for the first pixel
groups : int32 [outputs], where the row's group of channels starts
shift : float32 [outputs], see `plain.reduce.scaling`
zero_point : code of 0.0
count, ..., columns : as in `Runs`
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

    def offsets(self, window: Window, inputs: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return where some of a row's C * kh * kw inputs lie for the first pixel."""
        c, i, j = window.elements(inputs)
        places: NDArray[np.int32] = c * np.int32(self.plane) + i * np.int32(self.pitch) + j
        return places


def emit(
    assembler: Assembler,
    weight: LevelWeights,
    bias: NDArray[np.float32] | None,
    window: Window,
    groups: int,
    shape: Shape,
    reads: Quantization,
    gives: Quantization | None,
    source: Buffer,
    target: Buffer,
) -> None:
    """Emit a layer from codes of `shape` to float32 [M, OH, OW], over the scale of `gives`.

    See `plain.conv`. Sums of codes are exact.
    """
    outputs, channels = weight.shape[:2]
    runs = Runs.of(window, shape)
    group = np.arange(outputs) // (outputs // groups)
    levels, shift = scaling(weight, bias, reads, gives)
    form, pixels = Segments.of(weight, levels), window.outputs[0] * window.outputs[1]
    assembler.emit(
        add_codes, reason="rows of very many inputs", cost=len(form.columns) * pixels / 8,
        scratch=8 * TILE, source=_padded(assembler, source, shape, window, reads), target=target,
        outputs=outputs, inputs=shape[0] * runs.plane, pixels=pixels,
        groups=assembler.constant((group * channels * runs.plane).astype(np.int32)),
        count=runs.count, length=runs.length, stride=runs.stride, step=runs.step,
        width=runs.width, columns=runs.columns,
        offsets=assembler.constant(runs.offsets(window, form.columns)),
        shift=assembler.floats(shift), segments=len(form.levels), nonzeros=len(form.columns),
        rows=assembler.constant(form.rows), starts=assembler.constant(form.starts),
        levels=assembler.floats(form.levels), zero_point=reads.zero_point,
    )  # fmt: skip


def _padded(
    assembler: Assembler, source: Buffer, shape: Shape, window: Window, reads: Quantization
) -> Buffer:
    """Return planes that hold every place of the window, what pads them being the code of 0.0."""
    channels, height, width = shape
    rows, pitch = window.padded(height, width)
    if (rows, pitch) == (height, width):
        return source
    planes, (top, left) = assembler.buffer(channels * rows * pitch), window.pads[:2]
    pads = (0, top, left, 0, rows - height - top, pitch - width - left)
    pad(assembler, source, planes, shape, pads, reads.zero_point, 1)
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


@kernel(LEVELS, FRAME)
def add_codes(operations, frames):
    """Sum each segment's codes over a run of pixels, scale once by its level, add up the levels.

    Notes
    -----
    Schindler et al., ECML-PKDD 2018. Offsets are proven in range when the plan is made.
    """
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
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
        source = frame.arena + operation.source + n * inputs
        place = frame.arena + operation.target + 4 * row * operation.pixels
        for run in range(operation.count):
            for first in range(0, operation.length, TILE):
                tile = min(TILE, operation.length - first)
                y = floats(frame.scratch, tile)
                sums = integers(frame.scratch + 4 * TILE, tile)
                y[:] = shift[m]
                start = groups[m] + run * operation.stride + first * step
                for s in range(rows[m], rows[m + 1]):
                    sums[:] = 0
                    for e in range(starts[s], starts[s + 1]):
                        _add(sums, codes(source + start + offsets[e], tile * step), step)
                    absent = np.int32(operation.zero_point * (starts[s + 1] - starts[s]))
                    level = levels[s]
                    for i in range(tile):
                        y[i] += level * np.float32(sums[i] - absent)
                _finish(operation, place, run, first, y)
