"""Fully connected layers of few levels over uint8 codes, by looking sums up.

Of every four inputs a table holds the sums of all 16 subsets. Four bits of weights say which of
them are at a level in a row, and so where in the table their sum is: one byte shuffle looks it up
for as many rows as a register has bytes, whatever the bits of the codes, up to four (T-MAC, Wei et
al. 2024, arXiv:2407.00088: there for the bits of weights, here for their levels). Codes of more
bits have tables of their low and of their high four bits.
"""

from __future__ import annotations

from math import lcm

import numpy as np
from numba import carray
from numba.extending import register_jitable
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization
from deepchip.formats.jit import kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.kernels.plain.reduce import scaling
from deepchip.runtime.program import Assembler

from .cpu import NEON
from .frame import FRAME, PLACE, layout, share
from .lookup import NIBBLE, TABLE, high_nibbles, low_nibbles, subset_sums
from .lookup_sums import sum_narrow, sum_wide
from .nibbles import GROUP, LEAST, ROWS, UNIT_BYTES, is_dense, pack
from .outputs import copy
from .quotients import code_bounds
from .reals import clip, plus, product, reals_from, round_codes
from .simd import lanes, load_f32, load_quarter, load_u8, store, subtract, w16, w32, w64

TABLES = layout(source=PLACE, target=PLACE, inputs="i8", groups="i8", wide="i8")
"""Of `inputs` codes in `groups` of 16; `wide`: codes of more than four bits.

Attributes
----------
target : uint8 [N, groups, 4, 16], or [N, groups, 2, 4, 16] of the low and of the high four bits
"""
LOOK_UP = layout(
    source=PLACE, target=PLACE, groups="i8", outputs="i8", count="i8", turn="i8", weights=PLACE,
    levels=PLACE, absent=PLACE, shift=PLACE, coded="i8", low="f4", high="f4",
)  # fmt: skip
"""A layer of `outputs` rows, whose last is followed by rows of zeros up to whole units.

Attributes
----------
source : tables of the codes, see `TABLES`
count : levels
turn : units that a thread takes at a time; whole blocks, and all levels of their rows
weights : see `nibbles.pack`
levels, absent : float32 and int32 [M / 16, count, 16], see `plain.reduce.scaling`, and zero point
    times how many weights are at the level
shift : float32 [M / 16, 16], see there
coded, low, high : whether codes are given, and their bounds less their zero point
"""
narrow, wide = (w32, w16) if NEON else (w64, w64)
"""Bytes of weights that are read at a time, for codes up to four bits and for others: on NEON the
sums of twice as many rows, in bytes and in 16 bits, would not stay in registers."""
NARROW, WIDE = (4, 2) if NEON else (8, 8)
"""Units of such a block."""
TURN = 16
"""Units of a turn, at least."""
GROUP_TABLES = GROUP // NIBBLE * TABLE
"""Bytes of the tables of a group, or of one half of its codes' bits."""
SEGMENT_TABLES = 2**13
"""Bytes of tables that all blocks of a turn use before the next are read: they stay in the cache.
They are of at most 128 groups, whose sums fit 16 bits, see `lookup_sums`."""
SUMS = 4 * ROWS
"""Bytes of the sums of a unit."""


def worth_looking_up(weight: LevelWeights, reads: Quantization) -> bool:
    """Say whether there are enough nonzeros; fewer are added one by one."""
    return is_dense(weight, _block(reads))


def _block(reads: Quantization) -> int:
    return WIDE if reads.bits > NIBBLE else NARROW


def emit(
    assembler: Assembler,
    weight: LevelWeights,
    bias: NDArray[np.float32] | None,
    reads: Quantization,
    gives: Quantization | None,
    source: Buffer,
    target: Buffer,
) -> None:
    """Emit a layer from codes [K] to [M], float32 or codes."""
    (outputs, inputs), count = weight.shape, weight.levels.shape[-1]
    groups, deep, block = -(-inputs // GROUP), reads.bits > NIBBLE, _block(reads)
    weights, counts = pack(weight, block)
    least = lcm(count, block)
    turn = -(-TURN // least) * least
    levels, shift = scaling(weight, bias, reads, gives)
    rest = len(counts) * ROWS - outputs
    by_unit = np.pad(levels.table(), ((0, rest), (0, 0))).reshape(-1, ROWS, count).swapaxes(1, 2)
    tables = assembler.buffer(groups * GROUP_TABLES * (2 if deep else 1))
    assembler.emit(
        make_tables, margin=GROUP, source=source, target=tables, inputs=inputs, groups=groups,
        wide=deep,
    )  # fmt: skip
    assembler.emit(
        look_up_wide if deep else look_up_narrow, scratch=SUMS * (turn + 1),
        reason=f"{weight.nonzeros / weights.size:.1f} nonzeros a byte: sums are looked up",
        cost=weights.size * (0.05 if deep else 0.03), source=tables, target=target, groups=groups,
        outputs=outputs, count=count, turn=turn, weights=assembler.constant(weights),
        levels=assembler.floats(by_unit), absent=assembler.constant(counts * reads.zero_point),
        shift=assembler.floats(np.pad(shift, (0, rest))), coded=gives is not None,
        **code_bounds(gives),
    )  # fmt: skip


@kernel(TABLES, FRAME)
def make_tables(operations, frames):
    """Write the sums of subsets. What is read behind the last code meets no weight."""
    op, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    tables_each = GROUP_TABLES * (2 if op.wide else 1)
    first, last = share(op.groups, frame)
    for n in range(frame.images):
        source = frame.arena + op.source + n * op.inputs
        target = frame.arena + op.target + n * op.groups * tables_each
        for group in range(first, last):
            x, tables = load_u8(w16(), source + group * GROUP), target + group * tables_each
            if op.wide:
                store(tables, subset_sums(low_nibbles(x)))
                store(tables + GROUP_TABLES, subset_sums(high_nibbles(x)))
            else:
                store(tables, subset_sums(x))


@register_jitable
def _layer(w, add_up, tables_each, operations, frames):
    """Reduce and scale this piece's rows. Weights are read once for all items.

    w : bytes of weights of a quad of a block
    add_up : function of `lookup_sums`
    tables_each : bytes of the tables of a group
    """
    op, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    count, groups, turn = op.count, op.groups, op.turn
    block = lanes(w) * 2 // ROWS
    units = (op.outputs + ROWS - 1) // ROWS * count
    begin, end = share((units + turn - 1) // turn, frame)
    for first in range(begin * turn, min(end * turn, units), turn):
        last = min(first + turn, units)
        for n in range(frame.images):
            source = frame.arena + op.source + n * groups * tables_each
            for done in range(0, groups, SEGMENT_TABLES // tables_each):
                more = min(SEGMENT_TABLES // tables_each, groups - done)
                tables = source + done * tables_each
                for unit in range(first, last, block):
                    held = block if last - unit > LEAST else LEAST
                    weights = op.weights + (unit * groups + done * held) * UNIT_BYTES
                    sums = frame.scratch + (unit - first) * SUMS
                    if held == block:
                        add_up(w, tables, weights, more, done, sums)
                    else:
                        add_up(w16(), tables, weights, more, done, sums)
            for unit in range(first, last, count):
                sums = frame.scratch + (unit - first) * SUMS
                _finish(op, frame, n, unit, sums, frame.scratch + turn * SUMS)


@register_jitable
def _finish(op, frame, n, unit, sums, spare):
    """Scale the sums of 16 rows, and store them: the formula of SPEC.md, section Arithmetic.

    spare : room for 16 numbers
    """
    row = unit // op.count * ROWS
    q = load_f32(w16(), op.shift + 4 * row)
    for level in range(op.count):
        at = SUMS * (unit + level)
        s = subtract(load_quarter(w64(), sums + SUMS * level), load_quarter(w64(), op.absent + at))
        q = plus(q, product(reals_from(s, np.int32(0)), load_f32(w16(), op.levels + at)))
    size = 1 if op.coded else 4
    target = frame.arena + op.target + size * (n * op.outputs + row)
    rows = min(ROWS, op.outputs - row)
    given = target if rows == ROWS else spare
    if op.coded:
        store(given, round_codes(clip(q, op.low, op.high), op.low))
    else:
        store(given, q)
    if rows < ROWS:
        copy(target, spare, size * rows)


@kernel(LOOK_UP, FRAME)
def look_up_narrow(operations, frames):
    """Compute a layer over codes of up to four bits.

    Notes
    -----
    Schindler et al., ECML-PKDD 2018: Wp and -Wn are two levels.
    """
    _layer(narrow(), sum_narrow, GROUP_TABLES, operations, frames)


@kernel(LOOK_UP, FRAME)
def look_up_wide(operations, frames):
    """Compute a layer over codes of five to eight bits; see `look_up_narrow`."""
    _layer(wide(), sum_wide, 2 * GROUP_TABLES, operations, frames)
