"""Tiles: the inputs that some output pixels see, packed so that they lie side by side.

A tile is [K, lanes], one row for each of the K inputs of a row of weights: the columns of im2col, a
few pixels at a time. Every kind of convolution differs here alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from deepchip.formats.graph import Shape
from deepchip.runtime.kernels.window import Window

from .simd import blend, lanes, load_u8, store, w64

Array = NDArray[Any]

SLACK = 512
"""Bytes behind a buffer that vectors may be read from, or written to, beyond its end."""
MAX_MASKS = 2**24
"""Bytes of masks of a layer; larger kernels over larger planes are padded instead."""


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
    numbers : int64, what the kernel needs to know; see `pack`
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
        near = down < height and beside <= width
        moved = same and near and kh * kw * rows * columns <= MAX_MASKS
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
def find_runs(numbers, image, pixel, valid, runs):
    """Find the runs of the tile's pixels whose inputs lie side by side, and return their number.

    runs : int64 [3, lanes + 1]; of each run its first lane, the place among the planes of what the
        window's first element sees, and the pixel of its image. Parts of rows hold at most 64.
    """
    moved, total, sv, rows, columns, pitch, plane = (
        numbers[0], numbers[1], numbers[4], numbers[10], numbers[11], numbers[12], numbers[13],
    )  # fmt: skip
    found = 0
    done = 0
    while done < valid:
        row = pixel // columns
        column = pixel - row * columns
        runs[0, found] = done
        runs[2, found] = pixel
        if moved:
            runs[1, found] = image * total * plane + pixel
            count = rows * columns - pixel
        else:
            runs[1, found] = image * total * plane + row * sv * pitch + column
            count = min(columns - column, 64)
        done += count
        pixel += count
        found += 1
        if pixel == rows * columns:
            pixel = 0
            image += 1
    return found


@register_jitable
def pack(w, planes, numbers, masks, first, last, fill, tile, runs, found):
    """Write the tile rows of inputs `first` to `last` in the order (channel, i, j).

    A vector is always stored whole: what lies beyond a run of pixels is overwritten by the next
    run, the next tile row, or is slack.
    """
    moved, kh, kw, sh, dv, dh, top, left, pitch, plane = (
        numbers[0], numbers[2], numbers[3], numbers[5], numbers[6], numbers[7], numbers[8],
        numbers[9], numbers[12], numbers[13],
    )  # fmt: skip
    base = planes.ctypes.data + SLACK + plane
    target = tile.ctypes.data
    c = first // (kh * kw)
    i = first // kw % kh
    j = first % kw
    for _ in range(first, last):
        if moved:
            source = base + c * plane + (i * dv - top) * pitch + j * dh - left
            mask = masks.ctypes.data + (i * kw + j) * masks.shape[1]
            for r in range(found):
                seen = blend(load_u8(w, source + runs[1, r]), load_u8(w, mask + runs[2, r]), fill)
                store(target + runs[0, r], seen)
        else:
            phase = j * dh % sh * (plane // sh)
            source = base + c * plane + phase + i * dv * pitch + j * dh // sh
            for r in range(found):
                store(target + runs[0, r], load_u8(w64(), source + runs[1, r]))
        target += lanes(w)
        j += 1
        if j == kw:
            j = 0
            i += 1
            if i == kh:
                i = 0
                c += 1
