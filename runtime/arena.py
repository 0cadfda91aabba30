"""The arena: one block of memory, where buffers that are alive together never overlap."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LINE = 64
"""Buffers begin on a whole cache line: a load that straddles two takes twice as long."""
BEFORE = -1
"""The time before the first operation, when inputs are written."""


def aligned(size: int) -> NDArray[np.uint8]:
    """Return uint8 [size] from a whole cache line on."""
    memory = np.empty(size + LINE, np.uint8)
    start = -int(memory.ctypes.data) % LINE
    return memory[start : start + size]


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
    """Return each buffer's offset for a slice of `images` items, and the size of all.

    Largest first, each at the lowest offset where nothing that is alive with it lies: Pisarchyk and
    Lee, Efficient Memory Management for Deep Neural Net Inference, 2020, section 5.2 (greedy by
    size).
    """
    sizes = [-(-buffer.size * images // LINE) * LINE for buffer in buffers]
    offsets = [0] * len(buffers)
    placed: list[int] = []  # by offset
    for index in sorted(range(len(buffers)), key=lambda i: -sizes[i]):
        buffer, offset = buffers[index], 0
        for other in placed:
            if buffers[other].last < buffer.first or buffer.last < buffers[other].first:
                continue
            if offset + sizes[index] <= offsets[other]:
                break
            offset = max(offset, offsets[other] + sizes[other])
        offsets[index] = offset
        insort(placed, index, key=offsets.__getitem__)
    ends = [offset + size for offset, size in zip(offsets, sizes, strict=True)]
    return offsets, max(ends, default=0)
