"""Convolution of float32 planes, in vectors of output pixels.

Over float32 a multiplication costs no more than an addition, fused with it: sums by level would win
nothing. So each nonzero is multiplied by itself, and many levels cost what few do.

Planes are padded, and split into phases of every sv-th row and every sh-th column, so that what an
element of the window sees of consecutive output pixels lies side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Shape, Tensor
from deepchip.formats.jit import kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.kernels.plain.reduce import scaling
from deepchip.runtime.kernels.window import Window
from deepchip.runtime.program import Assembler

from .borders import pad
from .frame import FRAME, PLACE, layout, pointer, share
from .moves import strided_copy
from .outputs import copy, find_lines
from .simd import Vector, emitted, lanes, load_f32, load_float, load_int, splat, store, w64, w128

LANES = 128
"""Pixels of the widest vector of sums."""
TURN = 16
"""Rows that a thread takes at a time."""
SCRATCH = 4 * LANES + 3 * 8 * LANES
"""Bytes that a thread needs: a row of outputs, and where its parts lie."""

CONV_FLOATS = layout(
    source=PLACE,
    target=PLACE,
    size="i8",  # numbers of an item of the source
    outputs="i8",
    rows="i8",  # of output pixels, `columns` of which are wanted of each `pitch`
    pitch="i8",
    columns="i8",
    turns="i8",
    positions=PLACE,  # int32, where the input of each weight lies for the first pixel
    values=PLACE,  # float32, the weights
    starts=PLACE,  # int32 [outputs + 1], of the weights of each row
    shared="i8",  # whether all rows have the positions of the first
    bases=PLACE,  # int32 [outputs], where the row's group of channels starts
    shift=PLACE,  # float32 [outputs]
)


@dataclass(frozen=True)
class Phases:
    """Padded planes, split by strides.

    Attributes
    ----------
    padded : (rows, columns) of a padded plane, whole multiples of the strides
    count : phases of a plane, (down, right): the strides
    phase : (rows, columns) of a phase
    """

    padded: tuple[int, int]
    count: tuple[int, int]
    phase: tuple[int, int]

    @classmethod
    def of(cls, window: Window, shape: Shape) -> Phases:
        """Return the phases of a window over items of `shape`."""
        (down, right), (height, width) = window.strides, window.padded(*shape[1:])
        phase = (-(-height // down), -(-width // right))
        return cls((phase[0] * down, phase[1] * right), (down, right), phase)

    @property
    def plane(self) -> int:
        """Numbers of a channel."""
        return prod(self.padded)

    def positions(self, window: Window, inputs: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return where some of a row's C * kh * kw inputs lie for the first pixel."""
        c, i, j = window.elements(inputs)
        down, right = map(np.int32, self.count)
        size, columns, plane = map(np.int32, (prod(self.phase), self.phase[1], self.plane))
        places: NDArray[np.int32] = c * plane + (i % down * right + j % right) * size
        places += i // down * columns + j // right
        return places


def emit(
    assembler: Assembler,
    weight: Tensor,
    bias: NDArray[np.float32] | None,
    window: Window,
    groups: int,
    shape: Shape,
    source: Buffer,
    target: Buffer,
) -> None:
    """Emit a convolution of items of `shape` to float32 [M, OH, OW]; see `plain.conv`."""
    outputs, channels = weight.shape[:2]
    phases = Phases.of(window, shape)
    shift = np.zeros(outputs) if bias is None else bias
    shared = not isinstance(weight, LevelWeights)
    if isinstance(weight, LevelWeights):
        levels, shift = scaling(weight, bias, None, None)
        csr = weight.decode()
        rows = np.repeat(np.arange(outputs), np.diff(csr.indptr))
        values, starts = levels.of(rows, csr.codes.astype(np.intp) - 1), csr.indptr
        positions = phases.positions(window, csr.indices)
    else:
        inputs = np.arange(prod(weight.shape[1:]), dtype=np.int32)
        values, starts = weight, np.arange(outputs + 1) * len(inputs)
        positions = phases.positions(window, inputs)
    pixels = window.outputs[0] * phases.phase[1]
    bases = np.arange(outputs) // (outputs // groups) * channels * phases.plane
    assembler.emit(
        conv_floats, scratch=SCRATCH, margin=4 * LANES, cost=values.size * pixels / 70,
        reason="float weights" if shared else "float inputs: a product for each nonzero",
        source=_split(assembler, source, shape, window, phases), target=target,
        size=shape[0] * phases.plane, outputs=outputs, rows=window.outputs[0],
        pitch=phases.phase[1], columns=window.outputs[1], turns=-(-outputs // TURN),
        positions=assembler.constant(positions), values=assembler.floats(values),
        starts=assembler.constant(np.asarray(starts, np.int32)), shared=shared,
        bases=assembler.constant(bases.astype(np.int32)), shift=assembler.floats(shift),
    )  # fmt: skip


def _split(
    assembler: Assembler, source: Buffer, shape: Shape, window: Window, phases: Phases
) -> Buffer:
    """Emit what pads planes and splits them into phases; return where they lie then."""
    channels, height, width = shape
    rows, columns = phases.padded
    if phases.padded != (height, width):
        padded = assembler.buffer(4 * channels * rows * columns)
        top, left = window.pads[:2]
        pads = (0, top, left, 0, rows - height - top, columns - width - left)
        pad(assembler, source, padded, shape, pads, 0.0, 4)
        source = padded
    down, right = phases.count
    if down == right == 1:
        return source
    split = assembler.buffer(4 * channels * rows * columns)
    shape = (channels, down, right, *phases.phase)
    steps = (rows * columns, columns, 1, down * columns, right)
    strided_copy(assembler, source, split, shape, steps, 4)
    return split


@intrinsic
def _spread(context, width, number):
    """Return a vector of one float32."""
    vector = Vector("f32", width.lanes)
    emit = emitted(lambda b, w, n: splat(b, n, vector.lanes))
    return vector(width, types.float32), emit


@intrinsic
def _add_product(context, total, x, number):
    """Return total + x * number, rounded once."""

    def emit(b, total, x, number):
        kind = ir.FunctionType(x.type, [x.type] * 3)
        fused = cgutils.get_or_insert_function(b.module, kind, f"llvm.fma.v{x.type.count}f32")
        return b.call(fused, [x, splat(b, number, x.type.count), total])

    return total(total, x, types.float32), emitted(emit)


@register_jitable
def _rows(w, op, frame, n, pixel, valid, first_row, last_row):
    """Compute some rows for the pixels from `pixel` on of item n."""
    row = frame.scratch
    lines = carray(pointer(row + 4 * LANES), (3, LANES), np.int64)
    wanted = op.rows * op.columns
    found = find_lines(op, n, pixel, valid, op.outputs * wanted, lines)
    direct = found == 1 and lines[2, 0] == lanes(w)
    source = frame.arena + op.source + 4 * (n * op.size + pixel)
    for m in range(first_row, last_row):
        total = _spread(w, load_float(op.shift + 4 * m))
        first, last = load_int(op.starts + 4 * m), load_int(op.starts + 4 * m + 4)
        base = source + 4 * np.int64(load_int(op.bases + 4 * m))
        value = op.values + 4 * np.int64(first)
        position = op.positions + (0 if op.shared else 4 * np.int64(first))
        for _ in range(last - first):
            x = load_f32(w, base + 4 * np.int64(load_int(position)))
            total = _add_product(total, x, load_float(value))
            position += 4
            value += 4
        place = frame.arena + op.target + 4 * m * wanted
        if direct:
            store(place + 4 * lines[1, 0], total)
        else:
            store(row, total)
            for k in range(found):
                copy(place + 4 * lines[1, k], row + 4 * lines[0, k], 4 * lines[2, k])


@kernel(CONV_FLOATS, FRAME)
def conv_floats(operations, frames):
    """Multiply and add: turns of rows for some pixels at a time."""
    op, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    # Of the last row no pixel behind those wanted: their windows would lie behind the planes.
    pixels = (op.rows - 1) * op.pitch + op.columns
    parts = (pixels + LANES - 1) // LANES
    first, last = share(frame.images * parts * op.turns, frame)
    for unit in range(first, last):
        part, turn = unit // op.turns, unit % op.turns
        n, pixel = part // parts, part % parts * LANES
        left = pixels - pixel
        first_row, last_row = turn * TURN, min(turn * TURN + TURN, op.outputs)
        if left > 64:
            _rows(w128(), op, frame, n, pixel, min(left, 128), first_row, last_row)
        else:
            _rows(w64(), op, frame, n, pixel, left, first_row, last_row)
