"""Tiles: the inputs that some output pixels see, packed so that they lie side by side.

A tile is [K, lanes], one row for each of the K inputs of a row of weights: the columns of im2col, a
few pixels at a time. Every kind of convolution differs here alone.

Pixels are counted along rows of `pitch`, of which `columns` are wanted, so that what an element of
the window sees of consecutive pixels lies side by side in memory too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable
from numpy.typing import NDArray

from deepchip.formats.jit import kernel
from deepchip.runtime.kernels.window import Window

from .frame import FRAME, PLACE, integers, layout, share
from .simd import blend, every_fourth, every_second, gather, lanes, load_u8, store, w64, zero_u8

LANES = 128
"""Pixels of the widest tile."""
SLACK = 256
"""Bytes that a vector may reach beyond what is wanted of a buffer, before and behind it."""
MAX_MASKS = 2**24
"""Bytes of all masks of a program; where there would be more, planes are padded instead."""

GEOMETRY: dict[str, Any] = {
    "source": PLACE,
    "taps": PLACE,  # int32 [kh * kw], where an element of the window lies for the first pixel
    "tap_count": "i8",
    "masks": PLACE,  # uint8 [kh * kw, mask_pitch], 255 where an element lies inside; or 0
    "mask_pitch": "i8",
    "channels": "i8",  # of the input
    "plane": "i8",  # bytes of a channel
    "rows": "i8",
    "pitch": "i8",
    "columns": "i8",
    "fill": "i8",  # code of 0.0
    "lanes": "i8",  # pixels of a tile, 64 or `LANES`; the last may have 64
}
"""Fields of an operation that packs tiles."""

SPREAD = layout(
    source=PLACE, target=PLACE, channels="i8", height="i8", width="i8", down="i8", right="i8",
    top="i8", left="i8", phase="i8", down_phases="i8", right_phases="i8", rows="i8", columns="i8",
    inside=PLACE, inside_pitch="i8", fill="i8",
)  # fmt: skip


@dataclass(frozen=True)
class Geometry:
    """Where the inputs of output pixels lie.

    At stride 1, where output planes are as large as input planes, an element of the window sees the
    plane itself, moved, but for what is masked out at its borders. In any other case planes are
    padded first and split into sv * sh phases, of every sv-th row and every sh-th column, so that
    an element again sees one of them, moved.

    Attributes
    ----------
    spread : whether planes are padded and split
    plane : bytes of a channel, all phases together
    phases : how many there are, (down, right)
    phase : (rows, columns) of a phase
    taps, masks : see `GEOMETRY`; masks None where nothing is masked
    rows, pitch, columns : of output pixels
    """

    spread: bool
    plane: int
    phases: tuple[int, int]
    phase: tuple[int, int]
    taps: NDArray[np.int32]
    masks: NDArray[np.uint8] | None
    rows: int
    pitch: int
    columns: int

    @classmethod
    def of(cls, window: Window, height: int, width: int, room: int) -> Geometry:
        """Return the geometry of a window over planes of this size.

        Parameters
        ----------
        room : bytes that masks may take
        """
        (kh, kw), (sv, sh), (dv, dh) = window.kernel, window.strides, window.dilations
        top, left = window.pads[:2]
        i, j = np.arange(kh) * dv, np.arange(kw) * dh
        pixels = height * width
        down = max(top, dv * (kh - 1) - top)
        beside = max(left, dh * (kw - 1) - left)
        # A plane is moved by less than its own size: as much may lie before and behind it.
        near = down < height and beside <= width and kh * kw * (pixels + SLACK) <= room
        if sv == sh == 1 and window.outputs == (height, width) and near:
            taps = _sums((i - top) * width, j - left)
            masks = _masks(window, height, width) if kh * kw > 1 or top or left else None
            whole = (1, pixels, pixels)
            phase = (height, width)
            return cls(False, pixels, (1, 1), phase, taps, masks, *whole)
        padded = window.padded(height, width)
        phase = (-(-padded[0] // sv), -(-padded[1] // sh))
        size = _phase_bytes(phase)
        # Phases that no element of the window sees are left out.
        phases = (int((i % sv).max()) + 1, int((j % sh).max()) + 1)
        taps = _sums(i % sv * phases[1] * size + i // sv * phase[1], j % sh * size + j // sh)
        rows, columns = window.outputs
        lines = (rows, phase[1], columns)
        if phase[1] == columns:
            lines = (1, rows * columns, rows * columns)
        plane = phases[0] * phases[1] * size
        return cls(True, plane, phases, phase, taps, None, *lines)

    @property
    def phase_bytes(self) -> int:
        """Bytes from a phase to the next."""
        return _phase_bytes(self.phase)

    def inside(self, width: int, right: int, left: int) -> NDArray[np.uint8]:
        """Return uint8 [right_phases, columns + slack]: 255 where a column lies in the plane."""
        columns = -(-self.phase[1] // 64) * 64
        column = np.arange(columns) * right + np.arange(self.phases[1])[:, None] - left
        return np.where((column >= 0) & (column < width), 255, 0).astype(np.uint8)

    def overlooked(self, width: int, right: int, left: int) -> int:
        """Return how many bytes before and behind planes `spread` reads with what it wants."""
        columns = -(-self.phase[1] // 64) * 64
        return max(left, right * (columns + 1) - left - width)

    @property
    def reach(self) -> int:
        """Bytes before and behind the planes that may be read."""
        return SLACK + (self.pitch if self.spread else int(np.abs(self.taps).max()))


class Geometries:
    """The geometries of a program: layers that are alike share one, and its masks."""

    def __init__(self) -> None:
        self._known: dict[tuple[Window, int, int], Geometry] = {}
        self._room = MAX_MASKS

    def of(self, window: Window, height: int, width: int) -> Geometry:
        """Return the geometry of a window over planes of this size."""
        key = (window, height, width)
        if key not in self._known:
            self._known[key] = Geometry.of(*key, self._room)
            masks = self._known[key].masks
            self._room -= 0 if masks is None else masks.nbytes
        return self._known[key]


def _sums(down: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the sums of each number of one and of the other, one after the other."""
    return np.add.outer(down.astype(np.int32), right.astype(np.int32)).reshape(-1)


def _phase_bytes(phase: tuple[int, int]) -> int:
    """Return the size of a phase with room for a vector behind it, in whole cache lines."""
    return -(-(phase[0] * phase[1] + 64) // 64) * 64


def _masks(window: Window, height: int, width: int) -> NDArray[np.uint8]:
    (kh, kw), (dv, dh), (top, left) = window.kernel, window.dilations, window.pads[:2]
    pixels = height * width
    masks = np.zeros((kh, kw, pixels + SLACK), np.uint8)
    down = np.add.outer(np.arange(kh) * dv - top, np.arange(height))
    right = np.add.outer(np.arange(kw) * dh - left, np.arange(width))
    inside_down = ((down >= 0) & (down < height)).astype(np.uint8) * np.uint8(255)
    inside_right = (right >= 0) & (right < width)
    for i in range(kh):
        product = inside_down[i][:, None] * inside_right[:, None]
        masks[i, :, :pixels] = product.reshape(kw, pixels)
    return masks.reshape(kh * kw, -1)


@kernel(SPREAD, FRAME)
def spread(operations, frames):
    """Pad planes [N, C, height, width] with `fill`, and split them into phases.

    target : uint8 [N, C, down_phases, right_phases, phase]; a phase is [rows, columns], and slack.
        Row r and column c of phase (i, j) is row r * down + i, column c * right + j of the padded
        plane
    inside : uint8 [right_phases, inside_pitch], 255 where a column of a phase lies inside
    """
    op, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    first, last = share(frame.images * op.channels, frame)
    for p in range(first, last):
        for i in range(op.down_phases):
            phases = (p * op.down_phases + i) * op.right_phases
            target = frame.arena + op.target + phases * op.phase
            for r in range(op.rows):
                line = r * op.down + i - op.top
                source = frame.arena + op.source + (p * op.height + line) * op.width - op.left
                inside = line >= 0 and line < op.height
                if op.right_phases == 2 and op.right == 2 and op.columns <= 64:
                    _spread_both(op, source, inside, target)
                else:
                    for j in range(op.right_phases):
                        _spread_line(op, source, inside, j, target + j * op.phase)
                target += op.columns


@register_jitable
def _spread_both(op, source, inside, target):
    """Write a short row of each of two phases, from one load."""
    w, fill = w64(), op.fill
    even, odd = zero_u8(w), zero_u8(w)
    first, second = even, odd
    if inside:
        even, odd = every_second(w, source, 0), every_second(w, source, 1)
        first, second = load_u8(w, op.inside), load_u8(w, op.inside + op.inside_pitch)
    store(target, blend(even, first, fill))
    store(target + op.phase, blend(odd, second, fill))


@register_jitable
def _spread_line(op, source, inside, j, target):
    """Write a row of a phase. Whole vectors are stored: the next row overwrites what is beyond."""
    w = w64()
    mask = op.inside + j * op.inside_pitch
    for c in range(0, op.columns, 64):
        within = load_u8(w, mask + c) if inside else zero_u8(w)
        if not inside:
            seen = zero_u8(w)
        elif op.right == 1:
            seen = load_u8(w, source + c)
        elif op.right == 2:
            seen = every_second(w, source + 2 * c, j)
        elif op.right == 4:
            seen = every_fourth(w, source + 4 * c, j)
        else:
            seen = gather(w, source + op.right * c + j, op.right)
        store(target + c, blend(seen, within, op.fill))


@register_jitable
def find_images(op, image, pixel, valid, runs):
    """Find the parts of a tile that belong to one image each, and return their number.

    runs : int64 [3, lanes]; of each part its first lane, the place of its first pixel among the
        planes, and that pixel
    """
    pixels = op.rows * op.pitch
    found = 0
    done = 0
    while done < valid:
        runs[0, found] = done
        runs[1, found] = image * op.channels * op.plane + pixel
        runs[2, found] = pixel
        done += pixels - pixel
        pixel = 0
        image += 1
        found += 1
    return found


@register_jitable
def pack(w, op, frame, first, last, runs, found, tile):
    """Write the tile rows of inputs `first` to `last`, in the order (channel, i, j).

    A vector is always stored whole: what lies beyond a part is overwritten by the next part, by the
    next tile row, or is slack.
    """
    # Read once: the compiler cannot know that stores leave the operation alone.
    count, plane, masks, pitch, fill = op.tap_count, op.plane, op.masks, op.mask_pitch, op.fill
    taps = integers(op.taps, count)
    tap = first % count
    base = frame.arena + op.source + first // count * plane
    if found == 1:
        base += runs[1, 0]
        masks += runs[2, 0] if masks != 0 else 0
    target = tile
    for _ in range(first, last):
        source, mask = base + taps[tap], masks + tap * pitch
        if found == 1:
            _pack_part(w, target, source, mask, masks, fill)
        else:
            for r in range(found):
                first_lane, seen, inside = runs[0, r], source + runs[1, r], mask + runs[2, r]
                _pack_part(w, target + first_lane, seen, inside, masks, fill)
        target += lanes(w)
        tap += 1
        if tap == count:
            tap = 0
            base += plane


@register_jitable
def _pack_part(w, target, source, mask, masked, fill):
    seen = load_u8(w, source)
    if masked != 0:
        seen = blend(seen, load_u8(w, mask), fill)
    store(target, seen)


@register_jitable
def clear(w, place):
    """Set a tile row to zero."""
    store(place, zero_u8(w))
