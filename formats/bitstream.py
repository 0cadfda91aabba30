"""Fixed-width fields packed into bytes, least significant bit first.

Field i fills the bits `i * width` to `(i + 1) * width` of the stream; bit b of the stream is bit
`b % 8` of byte `b // 8`. Zero bits fill the last byte, so a list of values has one byte string.

>>> pack(np.array([1, 2, 3], np.uint8), 3)  # 3, 2, 1 from the left: 0b0_1101_0001
array([209,   0], dtype=uint8)
>>> next(unpack(np.array([209, 0], np.uint8), 3, 3))
array([1, 2, 3], dtype=uint8)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.errors import InputError, InvalidModelError

MAX_WIDTH = 32
_SLICE = 8 * 2**13  # values worked on at a time: eight fields of any width end on a byte


def pack(values: NDArray[np.integer[Any]], width: int) -> NDArray[np.uint8]:
    """Pack `values` into fields of `width` bits.

    Parameters
    ----------
    values : integers [n], each in [0, 2**width)
    width : int, 0 to 32; of width 0 are only zeros, which take no bytes

    Returns
    -------
    uint8[ceil(n * width / 8)]

    Raises
    ------
    InputError
        If the width is not 0 to 32, or a value does not fit.
    """
    if not 0 <= width <= MAX_WIDTH:
        raise InputError(f"fields of {width} bits; 0 to {MAX_WIDTH} are possible")
    if values.size and (values.min() < 0 or int(values.max()) >> width):
        raise InputError(
            f"values from {values.min()} to {values.max()} do not fit {width} bits; widen the field"
        )
    packed = np.zeros((_ceil_div(values.size, 8), width), np.uint8)
    for start in range(0, values.size if width else 0, _SLICE):
        fields = np.zeros((min(_SLICE // 8, len(packed) - start // 8), 8), _field_type(width))
        part = values[start : start + _SLICE]
        fields.reshape(-1)[: part.size] = part
        group = packed[start // 8 : start // 8 + len(fields)]
        for field, byte, shift in _overlaps(width):
            column = fields[:, field]
            group[:, byte] |= _shifted(column, -shift).astype(np.uint8)  # keeps the low 8 bits
    return packed.reshape(-1)[: _ceil_div(values.size * width, 8)]


def unpack(
    data: NDArray[np.uint8], width: int, count: int
) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
    """Read `count` fields of `width` bits, some at a time: the inverse of `pack`.

    Fields of width 0 take no bytes, so there the caller bounds `count` first.

    Parameters
    ----------
    data : uint8[ceil(count * width / 8)]
    width : int, 0 to 32
    count : int

    Yields
    ------
    uint8[up to 2**16] up to a width of 8, uint16 up to 16, uint32 above; `count` values in all, in
    one array or more

    Raises
    ------
    InvalidModelError
        If the width is not 0 to 32, `data` is too short or too long, or a padding bit is set;
        before the first value is given.
    """
    if not 0 <= width <= MAX_WIDTH or count < 0:
        raise InvalidModelError(
            f"{count} fields of {width} bits; expected no negative count and 0 to {MAX_WIDTH} bits"
        )
    bits = count * width
    if data.size != _ceil_div(bits, 8):
        raise InvalidModelError(
            f"{data.size} bytes for {count} fields of {width} bits, which take {_ceil_div(bits, 8)}"
        )
    check_padding(data, bits)
    kind = _field_type(width)
    for start in range(0, max(count, 1), _SLICE):
        size = min(_SLICE, count - start)
        octets = np.zeros((_ceil_div(size, 8), width), np.uint8)
        part = data[start // 8 * width : (start // 8 + len(octets)) * width]
        octets.reshape(-1)[: part.size] = part
        values = np.zeros((len(octets), 8), kind)
        for field, byte, shift in _overlaps(width):
            values[:, field] |= _shifted(octets[:, byte].astype(kind), shift)
        values &= kind.type((1 << width) - 1)
        yield values.reshape(-1)[:size]


def check_padding(data: NDArray[np.uint8], bits: int) -> None:
    """Raise InvalidModelError unless the last byte of `data` is zero from stream bit `bits` on."""
    if bits % 8 and int(data[-1]) >> bits % 8:
        raise InvalidModelError(
            f"the last byte is {int(data[-1]):#04x}, but {8 - bits % 8} padding bits must be zero"
        )


def _overlaps(width: int) -> Iterator[tuple[int, int, int]]:
    """Yield (field, byte, shift) in a group of eight: the byte holds bits `shift` up of the field.

    A negative shift says that the field begins within the byte, `-shift` bits up.
    """
    for field in range(8):
        first, last = field * width, (field + 1) * width - 1
        for byte in range(first // 8, last // 8 + 1):
            yield field, byte, 8 * byte - first


def _shifted(values: NDArray[Any], left: int) -> NDArray[Any]:
    bits = values.dtype.type(abs(left))
    return np.left_shift(values, bits) if left >= 0 else np.right_shift(values, bits)


def _field_type(width: int) -> np.dtype[np.unsignedinteger[Any]]:
    return np.dtype(np.uint8 if width <= 8 else np.uint16 if width <= 16 else np.uint32)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
