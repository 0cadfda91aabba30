"""Convolution of weights of levels over uint8 codes, in vectors of output pixels.

The inputs of some pixels are packed into a tile (see `tiles`). A row of weights is then sums of
tile rows: a load and an add of many pixels for each nonzero. The sums stay in registers until the
row is scaled, rounded and stored, or in wide layers until the next block of the tile is packed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization, Shape
from deepchip.formats.jit import jit
from deepchip.runtime.arrays import for_kernels
from deepchip.runtime.kernels.plain.reduce import scaling
from deepchip.runtime.kernels.window import Window

from .segments import Segments
from .simd import (
    add,
    add_level,
    high_bytes,
    lanes,
    load_index,
    load_pairs,
    load_u8,
    load_u16,
    round_codes,
    scale_shift,
    store,
    unpair,
    w64,
    w128,
    w256,
    widen_add,
    zero_f32,
    zero_pairs,
    zero_u8,
    zero_u16,
    zero_u32,
)
from .tiles import SLACK, Geometry, aligned, find_runs, pack

Array = NDArray[Any]

BLOCK_BYTES = 2**16
"""Bytes of a block of a tile: what measured best where the first-level cache has 48 KB."""
MAX_INPUTS = 2**16
"""Inputs K of a row: their positions are kept in 16 bits."""


def conv_codes(
    weight: LevelWeights,
    bias: NDArray[np.float32] | None,
    window: Window,
    groups: int,
    shape: Shape,
    reads: Quantization,
    gives: Quantization | None,
) -> Callable[[Array], Array]:
    """Return a function from codes [N, *shape] to [N, M, OH, OW]; see `plain.conv`."""
    csr = weight.decode()
    weight = replace(weight, decode=lambda: csr)  # once
    outputs, count = weight.shape[0], weight.levels.shape[-1]
    geometry = Geometry.of(window, shape)
    most = next(w for w in (64, 128, 256) if w >= min(256, window.outputs[0] * window.outputs[1]))
    row = np.repeat(np.arange(outputs), np.diff(csr.indptr))
    places, sizes = np.unique(row * max(1, count) + csr.codes, return_counts=True)
    # Sums of codes fit 16 bits, or else those of pairs of bytes are kept in 32.
    narrow = reads.bits <= 4 and int(sizes.max(initial=0)) * reads.maximum < 2**16
    chunk = 255 // reads.maximum if narrow else 257
    # A block of the tile stays near while all rows of weights go over it. Many levels, or wide
    # sums, would spend more on what is kept between blocks than that saves.
    blocks = narrow and 1 <= count <= 4
    form = Segments.of(weight, BLOCK_BYTES // most if blocks else None)
    positions = (form.columns % max(1, form.block)).astype(np.uint16)
    levels = for_kernels(weight.row_levels if blocks else np.zeros((1, 1)))
    absent = np.zeros(levels.shape, np.int32)
    if blocks:
        absent.reshape(-1)[places - 1] = sizes * reads.zero_point
    factor, shift = scaling(weight, bias, reads, gives)
    sums = levels.shape[1] * most * 2
    low = np.float32(0 if gives is None else -gives.zero_point)
    high = np.float32(0 if gives is None else gives.maximum - gives.zero_point)
    dtype = np.dtype(np.float32 if gives is None else np.uint8)

    def run(x: Array) -> Array:
        planes = geometry.planes(x, reads.zero_point)
        y = np.empty((len(x), outputs, *window.outputs), dtype)
        conv_tiles(
            planes, geometry.numbers, geometry.masks, form.rows, form.starts, form.slots,
            form.levels, positions, form.block, levels, absent, factor, shift, groups,
            reads.zero_point, chunk, narrow, most, gives is not None, low, high,
            aligned(form.block * most + SLACK), aligned(len(levels) // groups * sums + SLACK),
            np.empty(256 * 4, np.uint8), y.reshape(-1).view(np.uint8), len(x), outputs,
        )  # fmt: skip
        return y

    return run


@register_jitable
def _sum_narrow(w, total, tile, positions, first, last, chunk):
    """Add tile rows in 8-bit lanes, `chunk` of them before these could overflow, then in 16."""
    while first < last:
        until = min(first + chunk, last)
        sums = zero_u8(w)
        while first < until:
            sums = add(sums, load_u8(w, tile + load_index(positions + 2 * first) * lanes(w)))
            first += 1
        total = widen_add(total, sums)
    return total


@register_jitable
def _sum_wide(w, total, tile, positions, first, last, chunk):
    """Add tile rows as pairs of bytes in 16-bit lanes, and their high bytes; then in 32."""
    while first < last:
        until = min(first + chunk, last)
        whole = zero_pairs(w)
        high = zero_pairs(w)
        while first < until:
            pairs = load_pairs(w, tile + load_index(positions + 2 * first) * lanes(w))
            whole = add(whole, pairs)
            high = add(high, high_bytes(pairs))
            first += 1
        total = widen_add(total, unpair(whole, high))
    return total


@register_jitable
def _add_block(
    w, tile, first_row, last_row, place, rows, starts, slots, positions, chunk, count, partial
):  # fmt: skip
    """Add what one block of the tile gives to the sums that are kept of each row and level."""
    where = positions.ctypes.data
    for m in range(first_row, last_row):
        for s in range(rows[place + m], rows[place + m + 1]):
            at = partial + ((m - first_row) * count + slots[s]) * 2 * lanes(w)
            total = load_u16(w, at)
            store(at, _sum_narrow(w, total, tile, where, starts[s], starts[s + 1], chunk))


@register_jitable
def _clear(w, partial, size):
    """Set `size` bytes to zero, or up to a vector more."""
    done = 0
    while done < size:
        store(partial + done, zero_u8(w))
        done += lanes(w)


@register_jitable
def _finish_rows(
    w, first_row, last_row, levels, absent, factor, shift, partial, codes, low, high, scratch, out,
    image, pixel, pixels, valid, outputs,
):  # fmt: skip
    """Scale, round and store what the rows of weights were summed to."""
    count = levels.shape[1]
    for m in range(first_row, last_row):
        t = zero_f32(w)
        for slot in range(count):
            at = partial + ((m - first_row) * count + slot) * 2 * lanes(w)
            t = add_level(t, load_u16(w, at), absent[m, slot], levels[m, slot])
        _store_row(
            w, scale_shift(t, factor[m], shift[m]), codes, low, high, scratch, out, image, m,
            pixel, pixels, valid, outputs,
        )  # fmt: skip


@register_jitable
def _reduce_rows(
    w, tile, first_row, last_row, rows, starts, segment_levels, positions, factor, shift,
    zero_point, chunk, narrow, codes, low, high, scratch, out, image, pixel, pixels, valid, outputs,
):  # fmt: skip
    """Sum, scale, round and store where the whole tile is one block: nothing is kept between."""
    where = positions.ctypes.data
    for m in range(first_row, last_row):
        t = zero_f32(w)
        for s in range(rows[m], rows[m + 1]):
            absent = np.int32(zero_point * (starts[s + 1] - starts[s]))
            first, last = starts[s], starts[s + 1]
            if narrow:
                total = _sum_narrow(w, zero_u16(w), tile, where, first, last, chunk)
                t = add_level(t, total, absent, segment_levels[s])
            else:
                wide = _sum_wide(w, zero_u32(w), tile, where, first, last, chunk)
                t = add_level(t, wide, absent, segment_levels[s])
        _store_row(
            w, scale_shift(t, factor[m], shift[m]), codes, low, high, scratch, out, image, m,
            pixel, pixels, valid, outputs,
        )  # fmt: skip


@register_jitable
def _store_row(
    w, q, codes, low, high, scratch, out, image, m, pixel, pixels, valid, outputs
):  # fmt: skip
    """Store the pixels of one channel, as codes or as they are."""
    size = 1 if codes else 4
    direct = valid == lanes(w) and pixel + valid <= pixels
    target = scratch.ctypes.data
    if direct:
        target = out.ctypes.data + ((image * outputs + m) * pixels + pixel) * size
    if codes:
        store(target, round_codes(q, low, high))
    else:
        store(target, q)
    if not direct:
        _scatter(scratch, out, image, m, pixel, pixels, valid, outputs, size)


@register_jitable
def _scatter(scratch, out, image, m, pixel, pixels, valid, outputs, size):
    """Copy the pixels of a tile that are wanted to the images they belong to."""
    done = 0
    while done < valid:
        count = min(valid - done, pixels - pixel)
        start = ((image * outputs + m) * pixels + pixel) * size
        out[start : start + count * size] = scratch[done * size : (done + count) * size]
        done += count
        pixel = 0
        image += 1


@register_jitable
def _tile(
    w, planes, numbers, masks, rows, starts, slots, segment_levels, positions, block, levels,
    absent, factor, shift, groups, zero_point, chunk, narrow, codes, low, high, tile, partial,
    scratch, out, pixel, pixels, valid, outputs,
):  # fmt: skip
    """Compute all outputs of the pixels of one tile; `pixel` counts over all images."""
    image = pixel // pixels
    pixel -= image * pixels
    inputs = numbers[1] // groups * numbers[2] * numbers[3]
    each = outputs // groups
    sums = partial.ctypes.data
    runs = np.empty((3, lanes(w) + 1), np.int64)
    found = find_runs(numbers, image, pixel, valid, runs)
    for g in range(groups):
        first_row, last_row = g * each, (g + 1) * each
        if inputs <= block:
            pack(
                w, planes, numbers, masks, g * inputs, (g + 1) * inputs, zero_point, tile, runs,
                found,
            )  # fmt: skip
            _reduce_rows(
                w, tile.ctypes.data, first_row, last_row, rows, starts, segment_levels, positions,
                factor, shift, zero_point, chunk, narrow, codes, low, high, scratch, out, image,
                pixel, pixels, valid, outputs,
            )  # fmt: skip
            continue
        count = levels.shape[1]
        _clear(w, sums, each * count * 2 * lanes(w))
        place = 0
        for first in range(0, inputs, block):
            last = min(first + block, inputs)
            pack(
                w, planes, numbers, masks, g * inputs + first, g * inputs + last, zero_point, tile,
                runs, found,
            )  # fmt: skip
            _add_block(
                w, tile.ctypes.data, first_row, last_row, place, rows, starts, slots, positions,
                chunk, count, sums,
            )  # fmt: skip
            place += outputs
        _finish_rows(
            w, first_row, last_row, levels, absent, factor, shift, sums, codes, low, high, scratch,
            out, image, pixel, pixels, valid, outputs,
        )  # fmt: skip


@jit(
    "void(uint8[::1], int64[::1], uint8[:, ::1], int32[::1], int32[::1], uint8[::1], "
    "float32[::1], uint16[::1], int64, float32[:, ::1], int32[:, ::1], float32[::1], "
    "float32[::1], int64, int64, int64, boolean, int64, boolean, float32, float32, uint8[::1], "
    "uint8[::1], uint8[::1], uint8[::1], int64, int64)"
)
def conv_tiles(
    planes, numbers, masks, rows, starts, slots, segment_levels, positions, block, levels, absent,
    factor, shift, groups, zero_point, chunk, narrow, most, codes, low, high, tile, partial,
    scratch, out, images, outputs,
):  # fmt: skip
    """Compute a convolution tile by tile.

    Parameters
    ----------
    planes, numbers, masks : as in `Geometry`
    rows, starts, slots, segment_levels, block : as in `Segments`
    positions : uint16 [nnz], the row of each nonzero in its block of the tile
    levels, absent : float32, int32 [M, L], levels and zero_point times their number in a row
    factor, shift : float32 [M], see `plain.reduce.scaling`
    zero_point : code of 0.0 of the input
    chunk, narrow : how sums are widened, see `_sum_narrow` and `_sum_wide`
    most : lanes of the widest tile
    codes, low, high : whether codes are given, and their bounds less their zero point
    tile, partial, scratch : buffers for a block of a tile, for sums kept between blocks, for a row
    out : uint8, the bytes of the output [N, M, OH * OW]

    Notes
    -----
    Schindler et al., ECML-PKDD 2018. Positions and sizes are proven when the plan is made.
    """
    pixels = numbers[10] * numbers[11]
    pixel = 0
    while pixel < images * pixels:
        left = images * pixels - pixel
        if left > 128 and most == 256:
            valid = min(left, 256)
            _tile(
                w256(), planes, numbers, masks, rows, starts, slots, segment_levels, positions,
                block, levels, absent, factor, shift, groups, zero_point, chunk, narrow, codes,
                low, high, tile, partial, scratch, out, pixel, pixels, valid, outputs,
            )  # fmt: skip
        elif left > 64 and most >= 128:
            valid = min(left, 128)
            _tile(
                w128(), planes, numbers, masks, rows, starts, slots, segment_levels, positions,
                block, levels, absent, factor, shift, groups, zero_point, chunk, narrow, codes,
                low, high, tile, partial, scratch, out, pixel, pixels, valid, outputs,
            )  # fmt: skip
        else:
            valid = min(left, 64)
            _tile(
                w64(), planes, numbers, masks, rows, starts, slots, segment_levels, positions,
                block, levels, absent, factor, shift, groups, zero_point, chunk, narrow, codes,
                low, high, tile, partial, scratch, out, pixel, pixels, valid, outputs,
            )  # fmt: skip
        pixel += valid
