"""Elements at constant places along an axis: slices, channel shuffles, nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import carray
from numba.extending import register_jitable
from numpy.typing import NDArray

from deepchip.formats.jit import Kernel, kernel
from deepchip.runtime.arena import Buffer
from deepchip.runtime.program import Assembler

from .frame import FRAME, PLACE, codes, floats, integers, layout, share
from .outputs import copy

RUN_BYTES = 32
"""From this mean length on, elements that lie side by side are copied together."""
PIECE_BYTES = 2**15
"""A longer run is parted, so that threads can share it."""

RUNS = layout(source=PLACE, target=PLACE, rows="i8", size="i8", pitch="i8", count="i8", runs=PLACE)
"""`rows` of an item, from `size` bytes to `pitch` bytes, in `count` runs; `runs` are int32
[count, 3]: where each begins in a row of the source and of the target, and its length, in bytes.
"""
ELEMENTS = layout(source=PLACE, target=PLACE, rows="i8", size="i8", count="i8", indices=PLACE)
"""`rows` of an item, from `size` elements to the `count` at `indices`, int32 [count]."""


@kernel(RUNS, FRAME)
def take_runs(operations, frames):
    """Copy runs of bytes."""
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    size, pitch, count = operation.size, operation.pitch, operation.count
    runs = integers(operation.runs, 3 * count)
    unit, last = share(frame.images * operation.rows * count, frame)
    row, k = unit // count, unit % count
    source = frame.arena + operation.source + row * size
    target = frame.arena + operation.target + row * pitch
    while unit < last:
        copy(target + runs[3 * k + 1], source + runs[3 * k], np.int64(runs[3 * k + 2]))
        unit += 1
        k += 1
        if k == count:
            k = 0
            source += size
            target += pitch


@register_jitable
def _take(operations, frames, view, bytes_each):
    operation, frame = carray(operations, 1)[0], carray(frames, 1)[0]
    size, count = operation.size, operation.count
    indices = integers(operation.indices, count)
    first, last = share(frame.images * operation.rows, frame)
    for row in range(first, last):
        x = view(frame.arena + operation.source + bytes_each * row * size, size)
        out = view(frame.arena + operation.target + bytes_each * row * count, count)
        for i in range(count):
            out[i] = x[indices[i]]


@kernel(ELEMENTS, FRAME)
def take_floats(operations, frames):
    """Copy float32 elements."""
    _take(operations, frames, floats, 4)


@kernel(ELEMENTS, FRAME)
def take_codes(operations, frames):
    """Copy codes."""
    _take(operations, frames, codes, 1)


def take(
    assembler: Assembler,
    source: Buffer,
    target: Buffer,
    size: int,
    indices: Sequence[int],
    inner: int,
    each: int,
) -> None:
    """Emit that of rows of [size, inner] elements those at `indices` are copied.

    Parameters
    ----------
    each : bytes of an element, 1 or 4
    """
    row, pitch = size * inner * each, len(indices) * inner * each
    rows, runs = target.size // pitch, _runs(np.array(indices), inner * each)
    if pitch >= RUN_BYTES * len(runs):
        assembler.emit(
            take_runs, source=source, target=target, rows=rows, size=row, pitch=pitch,
            count=len(runs), runs=assembler.constant(runs),
        )  # fmt: skip
        return
    flat = np.add.outer(np.array(indices, np.int32) * inner, np.arange(inner, dtype=np.int32))
    copy_each: Kernel = take_floats if each == 4 else take_codes
    assembler.emit(
        copy_each, source=source, target=target, rows=rows, size=size * inner, count=flat.size,
        indices=assembler.constant(flat),
    )  # fmt: skip


def _runs(indices: NDArray[np.int64], width: int) -> NDArray[np.int32]:
    """Return the runs of indices that follow each other, of elements of `width` bytes."""
    most = max(1, PIECE_BYTES // width)
    starts = np.append(0, np.flatnonzero(np.diff(indices) != 1) + 1)
    ends = np.append(starts[1:], len(indices))
    pieces = -(-(ends - starts) // most)  # of each run
    run = np.repeat(np.arange(len(starts)), pieces)
    before = np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = starts[run] + before * most
    found = np.stack([indices[begin], begin, np.minimum(most, ends[run] - begin)], axis=1)
    return found.astype(np.int32) * np.int32(width)
