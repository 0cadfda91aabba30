"""The checksum of HDF5's metadata: Bob Jenkins, lookup3.c, 2006, the function hashlittle."""

from __future__ import annotations

import struct


def checksum(data: bytes) -> int:
    """Return the 32-bit hash of `data`, begun from 0. The example is Jenkins' own.

    >>> hex(checksum(b"Four score and seven years ago"))
    '0x17770551'
    """
    whole = -len(data) % 12
    words = struct.unpack(f"<{(len(data) + whole) // 4}I", data + bytes(whole))
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    for i in range(0, len(words), 3):
        a, b, c = a + words[i], b + words[i + 1], c + words[i + 2]
        if i + 3 < len(words):
            a, b, c = _mix(a & _MASK, b & _MASK, c & _MASK)
    return _final(a & _MASK, b & _MASK, c & _MASK) if words else c


_MASK = 2**32 - 1


def _rotated(x: int, bits: int) -> int:
    return (x << bits | x >> 32 - bits) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in (4, 6, 8, 16, 19, 4):  # the three take turns
        a, b, c = b, (b + c) & _MASK, (a - c & _MASK) ^ _rotated(c, bits)
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for bits in (14, 11, 25, 16, 4, 14, 24):
        a, b, c = b, ((c ^ b) - _rotated(b, bits)) & _MASK, a
    return b
