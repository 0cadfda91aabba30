"""The arena: one block of memory, where buffers that are alive together never overlap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.memory import pages

LINE = 64
"""Buffers begin on a whole cache line: a load that straddles two takes twice as long."""
OWN_PAGES = 2**15
"""Bytes from which on memory is worth pages of its own."""
MANY = 2**11
"""Buffers from which on they are placed quicker and looser."""
BEFORE = -1
"""The time before the first operation, when inputs are written."""


def aligned(size: int) -> NDArray[np.uint8]:
    """Return uint8 [size] from a whole cache line on, in pages of its own where it is large."""
    if size >= OWN_PAGES:
        return pages(size)
    memory = np.empty(size + LINE, np.uint8)
    start = -int(memory.ctypes.data) % LINE
    return memory[start : start + size]


def joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays of one dtype, one or more, end to end in `aligned` memory."""
    dtype = parts[0].dtype
    whole = aligned(sum(part.nbytes for part in parts)).view(dtype)
    np.concatenate(parts, out=whole)
    return whole


@dataclass(frozen=True)
class Memory:
    """What the operations of one call at a time work in.

    Attributes
    ----------
    arena : uint8, which holds every buffer; it keeps the rest alive
    offsets : of each buffer, into the arena
    scratch : address of what belongs to each thread alone
    """

    arena: NDArray[np.uint8]
    offsets: Sequence[int]
    scratch: Sequence[int]


def allocate(
    buffers: Sequence[Buffer], images: int, margin: int, scratch: int, threads: int
) -> Memory:
    """Return memory for a slice of `images` items, of which nothing is written yet.

    Parameters
    ----------
    margin : bytes before and behind the arena that may be read
    scratch : bytes of each thread
    """
    offsets, size = place(buffers, images)
    whole = aligned(size + 2 * margin + threads * scratch)
    behind = int(whole.ctypes.data) + size + 2 * margin
    own = [behind + thread * scratch for thread in range(threads)]
    return Memory(whole[margin : margin + size], offsets, own)


@dataclass(eq=False)
class Buffer:
    """A part of the arena.

    Attributes
    ----------
    size : bytes for each item of a slice
    first, last : the operations between which, both included, it holds something
    """

    size: int
    first: int = 2**31
    last: int = BEFORE

    def used(self, operation: int) -> None:
        """Note that an operation reads or writes it."""
        self.first = min(self.first, operation)
        self.last = max(self.last, operation)


def place(buffers: Sequence[Buffer], images: int) -> tuple[list[int], int]:
    """Return each buffer's offset for a slice of `images` items, and the size of all."""
    sizes = [-(-buffer.size * images // LINE) * LINE for buffer in buffers]
    way = _by_size if len(buffers) <= MANY else _in_turn
    offsets = way(buffers, sizes)
    ends = [offset + size for offset, size in zip(offsets, sizes, strict=True)]
    return offsets, max(ends, default=0)


def _by_size(buffers: Sequence[Buffer], sizes: Sequence[int]) -> list[int]:
    """Place the largest first, each at the lowest offset where nothing that is alive with it lies.

    Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference, 2020, section 5.2
    (greedy by size). The time is of the order of the square of the number of buffers.
    """
    offsets = [0] * len(buffers)
    placed = np.zeros((4, len(buffers)), np.int64)  # offset, end, first, last; by offset
    for count, index in enumerate(sorted(range(len(buffers)), key=lambda i: -sizes[i])):
        size, first, last = sizes[index], buffers[index].first, buffers[index].last
        begins, ends, firsts, lasts = placed[:, :count]
        alive = np.flatnonzero((firsts <= last) & (lasts >= first))
        free = np.zeros(len(alive) + 1, np.int64)  # from where on, before each of them and behind
        np.maximum.accumulate(ends[alive], out=free[1:])
        fits = free[:-1] + size <= begins[alive]
        offset = int(free[fits.argmax() if fits.any() else -1])
        offsets[index] = offset
        at = int(np.searchsorted(begins, offset, "right"))
        placed[:, at + 1 : count + 1] = placed[:, at:count]
        placed[:, at] = offset, offset + size, first, last
    return offsets


def _in_turn(buffers: Sequence[Buffer], sizes: Sequence[int]) -> list[int]:
    """Place each as it becomes alive, where one of its size was that is dead, or behind all."""
    offsets, end = [0] * len(buffers), 0
    alive: list[tuple[int, int]] = []  # (last, index), a heap
    free: defaultdict[int, list[int]] = defaultdict(list)  # offsets, by size
    for index in sorted(range(len(buffers)), key=lambda i: buffers[i].first):
        while alive and alive[0][0] < buffers[index].first:
            dead = heappop(alive)[1]
            free[sizes[dead]].append(offsets[dead])
        kept = free[sizes[index]]
        offsets[index] = kept.pop() if kept else end
        end = max(end, offsets[index] + sizes[index])
        heappush(alive, (buffers[index].last, index))
    return offsets
