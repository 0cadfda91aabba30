"""Bytes that are read as numbers and pieces, so that a fuzzer's bytes become arguments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Bits:
    """Bytes that are used up; zeros follow the last."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def number(self, most: int) -> int:
        """Return a number from 0 to `most`."""
        size = (most.bit_length() + 7) // 8
        return int.from_bytes(self._take(size), "little") % (most + 1)

    def piece(self, most: int = 2**16 - 1) -> NDArray[np.uint8]:
        """Return some bytes, of a length that stands before them."""
        return np.frombuffer(self._take(self.number(most)), np.uint8)

    def rest(self) -> NDArray[np.uint8]:
        """Return all that is left."""
        return np.frombuffer(self._take(len(self._data)), np.uint8)

    def _take(self, size: int) -> bytes:
        taken, self._data = self._data[:size], self._data[size:]
        return taken
