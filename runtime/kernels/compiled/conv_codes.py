"""Convolution of weights of levels over codes: what is worked out when the plan is made."""

from __future__ import annotations

from math import inf, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization, Shape
from deepchip.runtime.arena import Buffer
from deepchip.runtime.kernels.plain.reduce import Levels, residual_scaling, scaling
from deepchip.runtime.kernels.window import Window
from deepchip.runtime.program import Assembler

from . import conv_bits, conv_rows
from .blocks import FEW, MANY, Blocks, even_block
from .conv_blocks import KERNELS, MAX_LEVELS, SCRATCH
from .conv_rows import conv_rows_narrow, conv_rows_wide
from .outputs import CODES, FLOATS, NONE
from .pieces import Pieces
from .reals import BIAS
from .sums import QUAD
from .tile import LANES, Geometry, spread

_ADD, _COUNT, _CUT = 6.0, 36.0, 40.0
"""Picoseconds a pixel: to add a nonzero; and for each bit of a code, to count a word of a row, and
to cut an input into bits."""

Residual = tuple[Buffer, Quantization | None]


def fits(weight: LevelWeights) -> bool:
    """Say whether `emit` takes a layer of these weights."""
    return _few_levels(weight) or prod(weight.shape[1:]) <= conv_rows.MAX_INPUTS


def _counting(weight: LevelWeights, reads: Quantization) -> float:
    """Return picoseconds a pixel to count bits; infinity where that is not to be had.

    Where they are fewer than those of adding the nonzeros, so are the words: they take no more
    memory than a file pays for.
    """
    outputs, inputs = weight.shape[0], prod(weight.shape[1:])
    planes = 1 if conv_bits.is_full(weight) else weight.levels.shape[-1]
    words = outputs * planes * -(-inputs // conv_bits.WORD)
    if inputs > conv_bits.MAX_INPUTS or words == 0:
        return inf
    return reads.bits * (words * _COUNT + inputs * _CUT)


def _few_levels(weight: LevelWeights) -> bool:
    """Say whether `conv_blocks` serves: where a row at a level has nonzeros in most blocks.

    So blocks, and what is told of each input, never take more than some bytes a nonzero, whatever
    shape a file declares.
    """
    outputs, levels, inputs = weight.shape[0], weight.levels.shape[-1], prod(weight.shape[1:])
    blocks = -(-inputs // FEW)
    if levels > MAX_LEVELS or inputs > max(conv_rows.MAX_INPUTS, 4 * weight.nonzeros):
        return False
    return outputs * blocks * levels <= weight.nonzeros


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
    residual: Residual | None,
    relu: bool,
) -> None:
    """Emit the operations of a convolution over items of `shape`; see `plain.conv`.

    relu : whether 0 is wanted of negative float32
    """
    geometry = assembler.geometries.of(window, *shape[1:])
    if geometry.spread:
        source = _spread(assembler, geometry, window, shape, reads.zero_point, source)
    levels, shift = scaling(weight, bias, reads, gives)
    masks = geometry.masks
    pixels = geometry.rows * geometry.pitch
    inputs = prod(weight.shape[1:])
    adding, counting = weight.nonzeros * _ADD, _counting(weight, reads)
    form = _bits if counting < adding else _blocks if _few_levels(weight) else _rows
    rows, sums = form(assembler, weight, levels, groups, reads, pixels)
    most = _largest(sums, shift, reads, residual, gives)
    assembler.emit(
        **rows, **_residual(residual, gives),
        margin=geometry.reach, cost=_cost(weight, min(adding, counting), pixels),
        source=source, taps=assembler.constant(geometry.taps), tap_count=len(geometry.taps),
        masks=0 if masks is None else assembler.constant(masks),
        mask_pitch=0 if masks is None else masks.shape[1],
        channels=shape[0], plane=geometry.plane, rows=geometry.rows, pitch=geometry.pitch,
        columns=geometry.columns, fill=reads.zero_point,
        target=target, outputs=weight.shape[0], groups=groups, inputs=inputs,
        shift=assembler.constant(shift),
        codes=gives is not None,
        low=(0 if relu else -inf) if gives is None else -gives.zero_point,
        high=0 if gives is None else gives.maximum - gives.zero_point,
        small=most < 2**15 - 1,
    )  # fmt: skip


def _cost(weight: LevelWeights, sums: float, pixels: int) -> float:
    """Return nanoseconds for an item: for sums, to scale and store rows, and to pack tiles."""
    outputs, levels = weight.shape[0], weight.levels.shape[-1]
    store, pack = outputs * (0.15 + 0.1 * levels), prod(weight.shape[1:]) / 50
    return pixels * (sums / 1000 + store + pack)


def _spread(
    assembler: Assembler,
    geometry: Geometry,
    window: Window,
    shape: Shape,
    fill: int,
    source: Buffer,
) -> Buffer:
    """Emit what pads planes and splits them into phases; return where they lie then."""
    planes = assembler.buffer(shape[0] * geometry.plane)
    (top, left), (down, right) = window.pads[:2], window.strides
    inside = geometry.inside(shape[2], right, left)
    assembler.emit(
        spread, margin=geometry.overlooked(shape[2], right, left),
        source=source, target=planes, channels=shape[0], height=shape[1], width=shape[2],
        down=down, right=right, top=top, left=left, phase=geometry.phase_bytes,
        down_phases=geometry.phases[0], right_phases=geometry.phases[1],
        rows=geometry.phase[0], columns=geometry.phase[1], fill=fill,
        inside=assembler.constant(inside), inside_pitch=inside.shape[1],
    )  # fmt: skip
    return planes


def _blocks(
    assembler: Assembler,
    weight: LevelWeights,
    levels: Levels,
    groups: int,
    reads: Quantization,
    pixels: int,
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Return what `conv_blocks` is told of the weights, and the sum of each row's magnitudes."""
    table = levels.table()
    inputs = prod(weight.shape[1:])
    lanes, most = (64, MANY) if pixels <= 64 else (LANES, FEW)
    block = even_block(inputs, most)
    form = Blocks.of(weight, groups, block)
    if QUAD * int(form.quads.max(initial=0)) * reads.maximum >= 2**16:
        block = even_block(inputs, FEW)
        form = Blocks.of(weight, groups, block)
    return {
        "kernel": KERNELS[_narrow(reads), block <= FEW],
        "reason": f"{table.shape[1]} levels, {reads.bits} bits: blocks of {block} inputs",
        "lanes": lanes,
        "scratch": SCRATCH,
        "turns": -(-weight.shape[0] // groups // form.turn),
        "turn": form.turn,
        "levels": table.shape[1],
        "block": block,
        "chunk": _chunk(reads),
        "positions": assembler.constant(form.positions),
        "quads": assembler.constant(form.quads),
        "slots": assembler.constant(form.slots),
        "starts": assembler.constant(form.starts),
        "level": assembler.constant(table),
        "absent": assembler.constant((reads.zero_point * form.counts).astype(np.int32)),
        "deep": inputs > block and int(form.counts.max(initial=0)) * reads.maximum >= 2**16,
    }, _magnitudes(table, form.counts)


def _rows(
    assembler: Assembler,
    weight: LevelWeights,
    levels: Levels,
    groups: int,
    reads: Quantization,
    pixels: int,
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Return the same for `conv_rows`."""
    form = Pieces.of(weight)
    absent = np.where(form.counts < 0, -1, form.counts * reads.zero_point)
    level = levels.of(form.rows, form.levels)
    magnitudes = np.abs(level.astype(np.float64)) * np.maximum(form.counts, 0)
    return {
        "kernel": conv_rows_narrow if _narrow(reads) else conv_rows_wide,
        "reason": f"{weight.nonzeros / max(1, len(form.quads)):.0f} nonzeros a level: whole rows",
        "scratch": conv_rows.scratch_bytes(prod(weight.shape[1:])),
        "lanes": LANES,
        "turns": -(-weight.shape[0] // groups // conv_rows.TURN),
        "positions": assembler.constant(form.positions),
        "quads": assembler.constant(form.quads),
        "starts": assembler.constant(form.starts),
        "offsets": assembler.constant(form.offsets),
        "chunk": _chunk(reads),
        "level": assembler.constant(level),
        "absent": assembler.constant(absent.astype(np.int32)),
    }, np.bincount(form.rows, magnitudes, weight.shape[0]).astype(np.float64)


def _bits(
    assembler: Assembler,
    weight: LevelWeights,
    levels: Levels,
    groups: int,
    reads: Quantization,
    pixels: int,
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Return the same for `conv_bits`."""
    table, inputs = levels.table(), prod(weight.shape[1:])
    words, counts = conv_bits.bit_words(weight)
    full = conv_bits.is_full(weight)
    planes = "both levels from one plane" if full else f"{table.shape[1]} planes"
    return {
        "kernel": conv_bits.conv_bits,
        "reason": f"{reads.bits} bits, {weight.density:.0%} nonzero: counts bits, {planes}",
        "scratch": conv_bits.scratch_bytes(inputs, reads.bits),
        "lanes": LANES,
        "turns": -(-weight.shape[0] // groups // conv_bits.TURN),
        "bits": reads.bits,
        "words": words.shape[-1],
        "levels": table.shape[1],
        "full": full,
        "planes": assembler.constant(words),
        "every": assembler.constant(np.full(words.shape[-1], 2**32 - 1, np.uint32)),
        "level": assembler.constant(table),
        "absent": assembler.constant((reads.zero_point * counts).astype(np.int32)),
    }, _magnitudes(table, counts)


def _magnitudes(levels: NDArray[np.float32], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum of the magnitudes of each row of weights."""
    sums: NDArray[np.float64] = (np.abs(levels.astype(np.float64)) * counts).sum(axis=1)
    return sums


def _chunk(reads: Quantization) -> int:
    """Return how many quads can be added in 8-bit lanes before these could overflow."""
    return 255 // reads.maximum // QUAD


def _narrow(reads: Quantization) -> bool:
    """Say whether four of the largest codes fit eight bits."""
    return QUAD * reads.maximum <= 255


def _residual(residual: Residual | None, gives: Quantization | None) -> dict[str, Any]:
    """Return the fields that say what is added to the output; see SPEC.md, Arithmetic."""
    if residual is None:
        return {"residual": 0, "residual_form": NONE, "residual_factor": 0, "residual_offset": 0}
    buffer, form = residual
    factor, zero_point = residual_scaling(form, gives)
    return {
        "residual": buffer,
        "residual_form": FLOATS if form is None else CODES,
        "residual_factor": factor,
        "residual_offset": BIAS + zero_point,
    }


def _largest(
    magnitudes: NDArray[np.float64],
    shift: NDArray[np.float32],
    reads: Quantization,
    residual: Residual | None,
    gives: Quantization | None,
) -> float:
    """Return what no output exceeds, whatever is read; infinity where that is not known.

    Parameters
    ----------
    magnitudes : of each row of weights, their sum
    """
    if residual is not None and residual[1] is None:
        return float("inf")
    most = max(reads.zero_point, reads.maximum - reads.zero_point)
    sums = magnitudes * most + np.abs(shift)
    added = 0.0 if residual is None else 255.0 * float(residual_scaling(residual[1], gives)[0])
    return 1.01 * (float(sums.max(initial=0)) + added)  # float32 rounds less than that away
