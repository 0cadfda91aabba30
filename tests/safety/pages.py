"""Memory between protected pages: what a kernel touches beyond it ends the process.

A block is a body, written and read, with a margin before and behind it that may be read only. What
lies on the pages around is out of bounds. A page is protected as a whole, so that one edge of four
is exact: the beginning or the end of the body, or of the margins. What is written beside the body
but on its pages is found afterwards, by `Block.check`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

PAGE = mmap.PAGESIZE
NOTHING, READ, WRITE = 0, mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE


class Edge(Enum):
    """Which edge of a block lies where a page begins."""

    BODY_BEGINS = "body begins"
    BODY_ENDS = "body ends"
    MARGIN_BEGINS = "margin begins"
    MARGIN_ENDS = "margin ends"


@dataclass(frozen=True)
class Block:
    """A body among its pages; `start` is the body's place in `pages`, which it shares with none."""

    pages: Bytes
    start: int
    size: int
    kept: Bytes

    @property
    def body(self) -> Bytes:
        """The body, uint8 [size]."""
        return self.pages[self.start : self.start + self.size]

    def check(self) -> None:
        """Raise AssertionError if anything beside the body was written to."""
        first, last = _written(self.start, self.size)
        for begin, end in ((first, self.start), (self.start + self.size, last)):
            changed = np.flatnonzero(
                self.pages[begin:end] != self.kept[begin - first : end - first]
            )
            if changed.size:
                place = begin - self.start + int(changed[0])
                raise AssertionError(f"byte {place} of a buffer of {self.size} was written to")


def _written(start: int, size: int) -> tuple[int, int]:
    """Return where the pages that hold some of a body begin and end."""
    if size == 0:
        return start, start
    return start // PAGE * PAGE, -(-(start + size) // PAGE) * PAGE


def span(size: int, margin: int) -> int:
    """Return the bytes of all pages of a block, protected ones on both sides included."""
    return -(-(size + 2 * margin) // PAGE) * PAGE + 4 * PAGE


def block(pages: Bytes, size: int, margin: int, edge: Edge, random: np.random.Generator) -> Block:
    """Lay a block into `span(size, margin)` bytes of pages, and fill it with random bytes."""
    first = 2 * PAGE  # where the margin would begin, were it not for the edge
    anchor = {
        Edge.BODY_BEGINS: margin,
        Edge.BODY_ENDS: margin + size,
        Edge.MARGIN_BEGINS: 0,
        Edge.MARGIN_ENDS: margin + size + margin,
    }[edge]
    start = first + margin - anchor % PAGE
    readable = ((start - margin) // PAGE * PAGE, -(-(start + size + margin) // PAGE) * PAGE)
    pages[readable[0] : readable[1]] = random.integers(0, 256, readable[1] - readable[0], np.uint8)
    written = _written(start, size)
    protect(pages, NOTHING)
    if size + margin:
        protect(pages[readable[0] : readable[1]], READ)
    protect(pages[written[0] : written[1]], WRITE)
    return Block(pages, start, size, pages[written[0] : written[1]].copy())


def constant(array: NDArray[Any], edge: Edge) -> NDArray[Any]:
    """Return an array that can be read only, with nothing before or behind it."""
    size = array.nbytes
    pages = allocate(span(size, 0))
    start = 2 * PAGE - (size % PAGE if edge is Edge.BODY_ENDS else 0)
    held = pages[start : start + size]
    held[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    protect(pages, NOTHING)
    first, last = _written(start, size)
    protect(pages[first:last], READ)
    return held.view(array.dtype).reshape(array.shape)


def allocate(size: int) -> Bytes:
    """Return whole pages of zeros, which go when nothing views them any more."""
    return np.frombuffer(mmap.mmap(-1, size), np.uint8)


_libc = ctypes.CDLL(None, use_errno=True)


def protect(pages: Bytes, what: int) -> None:
    """Let whole pages be read, be written, or neither."""
    if not pages.size:
        return
    place = ctypes.c_void_p(pages.__array_interface__["data"][0])
    if _libc.mprotect(place, ctypes.c_size_t(pages.size), what):
        error = ctypes.get_errno()
        raise OSError(error, f"mprotect: {os.strerror(error)}")
