"""Convolution of weights of levels over uint8 codes, in vectors of output pixels.

The inputs of some pixels are packed into a tile, [K, lanes], one row for each of a weight row's K
inputs (the columns of im2col, a few pixels at a time). A row of weights is then sums of tile rows:
a load and an add of many pixels for each nonzero. All sums of a weight row stay in registers until
the row is scaled, rounded and stored. Every kind of convolution differs in its packing alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization, Shape
from deepchip.formats.jit import jit
from deepchip.runtime.kernels.plain.reduce import scaling
from deepchip.runtime.kernels.window import Window

from .segments import Segments
from .simd import (
    add,
    add_level,
    blend,
    high_bytes,
    lanes,
    load_index,
    load_pairs,
    load_u8,
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

Array = NDArray[Any]

SLACK = 512
"""Bytes behind a buffer that vectors may be read from, or written to, beyond its end."""
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
    form = Segments.of(weight)
    positions = form.columns.astype(np.uint16)
    factor, shift = scaling(weight, bias, reads, gives)
    outputs, channels = weight.shape[:2]
    inputs = len(positions) and channels * window.kernel[0] * window.kernel[1]
    longest = int(np.diff(form.starts).max(initial=0))
    # Sums of codes fit 16 bits, or else those of pairs of bytes are kept in 32.
    narrow = reads.bits <= 4 and longest * reads.maximum < 2**16
    chunk = 255 // reads.maximum if narrow else 257
    low = np.float32(0 if gives is None else -gives.zero_point)
    high = np.float32(0 if gives is None else gives.maximum - gives.zero_point)
    most = 256 if narrow and inputs <= 8192 else 128
    geometry = Geometry.of(window, shape)
    dtype = np.dtype(np.float32 if gives is None else np.uint8)

    def run(x: Array) -> Array:
        planes = geometry.planes(x, reads.zero_point)
        y = np.empty((len(x), outputs, *window.outputs), dtype)
        tile = aligned(channels * window.kernel[0] * window.kernel[1] * most + SLACK)
        conv_tiles(
            planes, geometry.numbers, geometry.masks, form.rows, form.starts, form.levels,
            positions, factor, shift, groups, reads.zero_point, chunk, narrow, most,
            gives is not None, low, high, tile, np.empty(256 * 4, np.uint8),
            y.reshape(-1).view(np.uint8), len(x), outputs,
        )  # fmt: skip
        return y

    return run


def aligned(size: int) -> NDArray[np.uint8]:
    """Return uint8 [size] from a whole cache line on: a load that straddles two takes twice."""
    buffer = np.empty(size + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + size]


@dataclass(frozen=True)
class Geometry:
    """Where the inputs of output pixels lie.

    At stride 1, where output rows are as long as input rows, the pixels of a plane see for each
    element of the window the plane itself, moved, but for those masked out at its borders. In any
    other case planes are padded first, and split by column so that the columns a row of pixels sees
    lie side by side.

    Attributes
    ----------
    numbers : int64, what the kernel needs to know; see `_pack`
    masks : uint8 [kh * kw, pixels + 256]: 255 where an element of the window lies inside; or [1, 1]
    """

    window: Window
    shape: Shape
    moved: bool
    numbers: NDArray[np.int64]
    masks: NDArray[np.uint8]

    @classmethod
    def of(cls, window: Window, shape: Shape) -> Geometry:
        """Return the geometry of a window over items of `shape`."""
        (rows, columns), (kh, kw) = window.outputs, window.kernel
        channels, height, width = shape
        (dv, dh), (sv, sh) = window.dilations, window.strides
        top, left = window.pads[:2]
        down = max(top, dv * (kh - 1) - top)
        beside = max(left, dh * (kw - 1) - left)
        same = sv == sh == 1 and (rows, columns) == (height, width)
        # A plane is moved by less than its own size: as much lies before and behind it.
        moved = same and down < height and beside <= width
        if moved:
            masks = _masks(window, height, width)
            pitch, plane = width, height * width
        else:
            masks = np.zeros((1, 1), np.uint8)
            padded = window.padded(height, width)
            pitch = -(-padded[1] // sh)
            plane = padded[0] * pitch * sh
            top = left = 0
        numbers = [
            moved, channels, kh, kw, sv, sh, dv, dh, top, left, rows, columns, pitch, plane
        ]  # fmt: skip
        return cls(window, shape, moved, np.array(numbers, np.int64), masks)

    def planes(self, x: Array, fill: int) -> NDArray[np.uint8]:
        """Return the planes to pack from, [N * C * plane] with slack before and behind them."""
        n, (channels, height, _) = len(x), self.shape
        plane, pitch = int(self.numbers[-1]), int(self.numbers[-2])
        flat = np.empty(n * channels * plane + 2 * SLACK + 2 * plane, np.uint8)
        inner = flat[SLACK + plane : SLACK + plane + n * channels * plane]
        if self.moved:
            inner[:] = x.reshape(-1)
            return flat
        phases = self.window.strides[1]
        top, left = self.window.pads[:2]
        split = inner.reshape(n, channels, phases, plane // pitch // phases, pitch)
        split[:] = fill
        for phase in range(phases):
            # Padded column c is column c // phases of phase c % phases.
            first = (phase - left) % phases
            columns = x[:, :, :, first::phases]
            start = (first + left) // phases
            split[:, :, phase, top : top + height, start : start + columns.shape[3]] = columns
        return flat


def _masks(window: Window, height: int, width: int) -> NDArray[np.uint8]:
    (kh, kw), (dv, dh), (top, left) = window.kernel, window.dilations, window.pads[:2]
    rows, columns = np.arange(height), np.arange(width)
    masks = np.zeros((kh, kw, height, width), np.uint8)
    for i in range(kh):
        for j in range(kw):
            down, right = rows + i * dv - top, columns + j * dh - left
            inside = (down >= 0) & (down < height)
            masks[i, j] = 255 * (inside[:, None] & ((right >= 0) & (right < width)))
    flat = masks.reshape(kh * kw, -1)
    return np.concatenate([flat, np.zeros((kh * kw, 256), np.uint8)], axis=1)


@register_jitable
def _sum_narrow(w, tile, positions, first, last, chunk):
    """Sum tile rows in 8-bit lanes, `chunk` of them before these could overflow, then in 16."""
    total = zero_u16(w)
    while first < last:
        until = min(first + chunk, last)
        sums = zero_u8(w)
        while first < until:
            sums = add(sums, load_u8(w, tile + load_index(positions + 2 * first) * lanes(w)))
            first += 1
        total = widen_add(total, sums)
    return total


@register_jitable
def _sum_wide(w, tile, positions, first, last, chunk):
    """Sum tile rows as pairs of bytes in 16-bit lanes, and their high bytes; then in 32."""
    total = zero_u32(w)
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
def _reduce_rows(
    w, tile, first_row, last_row, rows, starts, levels, positions, factor, shift, zero_point,
    chunk, narrow, codes, low, high, scratch, out, image, pixel, pixels, valid, outputs,
):  # fmt: skip
    """Reduce, scale and store the output pixels of a tile, for some rows of weights."""
    where = positions.ctypes.data
    size = 1 if codes else 4
    direct = valid == lanes(w) and pixel + valid <= pixels
    for m in range(first_row, last_row):
        t = zero_f32(w)
        for s in range(rows[m], rows[m + 1]):
            absent = np.int32(zero_point * (starts[s + 1] - starts[s]))
            if narrow:
                sums = _sum_narrow(w, tile, where, starts[s], starts[s + 1], chunk)
                t = add_level(t, sums, absent, levels[s])
            else:
                wide = _sum_wide(w, tile, where, starts[s], starts[s + 1], chunk)
                t = add_level(t, wide, absent, levels[s])
        q = scale_shift(t, factor[m], shift[m])
        target = (
            out.ctypes.data + ((image * outputs + m) * pixels + pixel) * size
            if direct
            else scratch.ctypes.data
        )
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
def _pack(w, planes, numbers, masks, first_channel, channels, fill, tile, image, pixel, valid):
    """Write tile rows [channels * kh * kw, lanes]; `pixel` of `image` is the first of `valid`.

    A vector is always stored whole: what lies beyond a run of pixels is overwritten by the next
    run, the next tile row, or is slack.
    """
    moved, total, kh, kw, sv, sh, dv, dh, top, left, rows, columns, pitch, plane = (
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6],
        numbers[7], numbers[8], numbers[9], numbers[10], numbers[11], numbers[12], numbers[13],
    )  # fmt: skip
    base = planes.ctypes.data + 512 + plane
    target = tile.ctypes.data
    pixels = rows * columns
    for c in range(first_channel, first_channel + channels):
        for i in range(kh):
            for j in range(kw):
                done = 0
                n = image
                p = pixel
                while done < valid:
                    source = base + (n * total + c) * plane
                    if moved:
                        count = min(valid - done, pixels - p)
                        mask = load_u8(w, masks.ctypes.data + (i * kw + j) * masks.shape[1] + p)
                        source += p + (i * dv - top) * pitch + j * dh - left
                        store(target + done, blend(load_u8(w, source), mask, fill))
                    else:
                        row = p // columns
                        column = p - row * columns
                        count = min(min(valid - done, columns - column), 64)
                        phase = j * dh % sh
                        source += (phase * (plane // sh)) + (row * sv + i * dv) * pitch
                        source += column + j * dh // sh
                        store(target + done, load_u8(w64(), source))
                    done += count
                    p += count
                    if p == pixels:
                        p = 0
                        n += 1
                target += lanes(w)


@register_jitable
def _tile(
    w, planes, numbers, masks, rows, starts, levels, positions, factor, shift, groups, zero_point,
    chunk, narrow, codes, low, high, tile, scratch, out, pixel, pixels, valid, outputs,
):  # fmt: skip
    """Compute all outputs of the pixels of one tile; `pixel` counts over all images."""
    image = pixel // pixels
    pixel -= image * pixels
    channels = numbers[1] // groups
    each = outputs // groups
    for g in range(groups):
        _pack(
            w, planes, numbers, masks, g * channels, channels, zero_point, tile, image, pixel,
            valid,
        )  # fmt: skip
        _reduce_rows(
            w, tile.ctypes.data, g * each, (g + 1) * each, rows, starts, levels, positions,
            factor, shift, zero_point, chunk, narrow, codes, low, high, scratch, out, image, pixel,
            pixels, valid, outputs,
        )  # fmt: skip


@jit(
    "void(uint8[::1], int64[::1], uint8[:, ::1], int32[::1], int32[::1], float32[::1], "
    "uint16[::1], float32[::1], float32[::1], int64, int64, int64, boolean, int64, boolean, "
    "float32, float32, uint8[::1], uint8[::1], uint8[::1], int64, int64)"
)
def conv_tiles(
    planes, numbers, masks, rows, starts, levels, positions, factor, shift, groups, zero_point,
    chunk, narrow, most, codes, low, high, tile, scratch, out, images, outputs,
):  # fmt: skip
    """Compute a convolution tile by tile.

    Parameters
    ----------
    planes, numbers, masks : as in `Geometry`
    rows, starts, levels : as in `Segments`
    positions : uint16 [nnz], the tile row of each nonzero
    factor, shift : float32 [M], see `plain.reduce.scaling`
    zero_point : code of 0.0 of the input
    chunk, narrow : how sums are widened, see `_sum_narrow` and `_sum_wide`
    most : lanes of the widest tile
    codes, low, high : whether codes are given, and their bounds less their zero point
    tile, scratch : uint8 [K * most + SLACK], uint8 [1024]
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
                w256(), planes, numbers, masks, rows, starts, levels, positions, factor, shift,
                groups, zero_point, chunk, narrow, codes, low, high, tile, scratch, out, pixel,
                pixels, valid, outputs,
            )  # fmt: skip
        elif left > 64:
            valid = min(left, 128)
            _tile(
                w128(), planes, numbers, masks, rows, starts, levels, positions, factor, shift,
                groups, zero_point, chunk, narrow, codes, low, high, tile, scratch, out, pixel,
                pixels, valid, outputs,
            )  # fmt: skip
        else:
            valid = left
            _tile(
                w64(), planes, numbers, masks, rows, starts, levels, positions, factor, shift,
                groups, zero_point, chunk, narrow, codes, low, high, tile, scratch, out, pixel,
                pixels, valid, outputs,
            )  # fmt: skip
        pixel += valid
