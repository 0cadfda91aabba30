"""Model files with one wrong stream, or one wrong description of it, and right digests.

Each begins as LeNet-5 with codes in Huffman tables, or in the encoding that it says.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from deepchip.formats.errors import DeepChipError, InvalidModelError, UnsupportedError
from deepchip.formats.model_file import model_bytes
from tests.formats.networks import lenet5

from .forge import Json, Parts, changed
from .table import Make, Table

FORGERIES = Table()
Change = Callable[[Parts], None]


@cache
def lenet(encoding: str = "huffman") -> bytes:
    """A LeNet-5 of random weights."""
    return model_bytes(lenet5(), encoding)


def changed_by(
    table: Table,
    whole: Callable[[], bytes],
    text: str,
    error: type[DeepChipError] = InvalidModelError,
) -> Callable[[Change], Make]:
    """Add to a table what a function makes of the parts of a right file."""

    def add(change: Change) -> Make:
        def make() -> bytes:
            return changed(whole(), change)

        make.__name__ = change.__name__
        return table.refused(text, error)(make)

    return add


def _forged(
    text: str, error: type[DeepChipError] = InvalidModelError, encoding: str = "huffman"
) -> Callable[[Change], Make]:
    """Add what a function makes of LeNet-5's parts."""
    return changed_by(FORGERIES, lambda: lenet(encoding), text, error)


def _weight(parts: Parts, layer: str = "fc1") -> Json:
    return parts.node(layer)["tensors"]["weight"]


def _place(parts: Parts, name: str, layer: str = "fc1") -> int:
    """Return the place of a stream of a layer's weights among all streams."""
    wanted = next(entry for entry in _weight(parts, layer)["streams"] if entry[0] == name)
    return next(i for i, entry in enumerate(parts.entries()) if entry is wanted)


def _edit(parts: Parts, name: str, edit: Callable[[bytearray], Any]) -> None:
    place = _place(parts, name)
    stream = bytearray(parts.streams[place])
    edit(stream)
    parts.streams[place] = bytes(stream)


@_forged("Huffman bytes end before")
def distances_of_another_layer(parts: Parts) -> None:
    one, other = _place(parts, "distances"), _place(parts, "distances", "fc2")
    parts.streams[one], parts.streams[other] = parts.streams[other], parts.streams[one]


@_forged("over-subscribed")
def a_table_with_too_many_codes(parts: Parts) -> None:
    _edit(parts, "distance_table", lambda table: table.__setitem__(0, 0x11))


@_forged("under-subscribed")
def a_table_with_too_few_codes(parts: Parts) -> None:
    _edit(parts, "distance_table", lambda table: table.__setitem__(0, 0xCC))


@_forged("codes up to 15 bits")
def a_table_of_long_codes(parts: Parts) -> None:
    _edit(parts, "code_table", lambda table: table.__setitem__(0, 0xFF))


@_forged("Huffman table of 2 symbols in 2 bytes")
def a_table_that_goes_on(parts: Parts) -> None:
    _edit(parts, "code_table", lambda table: table.append(0))


@_forged("Huffman bytes end before")
def huffman_codes_that_end_early(parts: Parts) -> None:
    _edit(parts, "distances", lambda stream: stream.pop())


@_forged("symbols end in")
def huffman_codes_that_go_on(parts: Parts) -> None:
    _edit(parts, "distances", lambda stream: stream.append(0))


@_forged("padding bits must be zero", encoding="runlength")
def a_padding_bit(parts: Parts) -> None:
    _edit(parts, "codes", lambda stream: stream.__setitem__(-1, stream[-1] | 0x80))


@_forged("the matrix holds", encoding="runlength")
def distances_that_overrun(parts: Parts) -> None:
    _edit(parts, "distances", lambda stream: stream.__setitem__(slice(0, 9), b"\x77" * 9))


@_forged("end with an escape", encoding="runlength")
def distances_that_end_in_an_escape(parts: Parts) -> None:
    weight = _weight(parts)
    weight.update(distance_bits=8, symbols=2, nonzeros=1)
    parts.streams[_place(parts, "distances")] = b"\x01\xff"
    parts.streams[_place(parts, "codes")] = b"\0"


def _fields(parts: Parts, name: str, width: int, edit: Callable[[Any], Any]) -> None:
    """Change the fields of a stream as an array of numbers."""
    place = _place(parts, name)
    bits = np.unpackbits(np.frombuffer(parts.streams[place], np.uint8), bitorder="little")
    count = bits.size // width
    table = bits[: count * width].reshape(count, width)
    numbers = table @ (1 << np.arange(width, dtype=np.int64))
    edit(numbers)
    table[:] = numbers[:, None] >> np.arange(width) & 1
    parts.streams[place] = np.packbits(bits, bitorder="little").tobytes()


@_forged("rows hold", encoding="csr")
def rows_of_more_than_there_is(parts: Parts) -> None:
    _fields(parts, "row_lengths", 9, lambda lengths: lengths.__setitem__(0, 511))


@_forged("strictly increasing", encoding="csr")
def a_row_longer_than_the_matrix_is_wide(parts: Parts) -> None:
    """What one row has more others have less: the sum stays right."""

    def edit(lengths: Any) -> None:
        missing = 511 - int(lengths[0])
        for row in range(1, len(lengths)):
            taken = min(missing, int(lengths[row]))
            lengths[row] -= taken
            missing -= taken
        lengths[0] = 511

    _fields(parts, "row_lengths", 9, edit)


@_forged("the matrix has 400 columns", encoding="csr")
def a_column_outside(parts: Parts) -> None:
    _fields(parts, "indices", 9, lambda indices: indices.__setitem__(-1, 511))


@_forged("strictly increasing", encoding="csr")
def a_column_twice(parts: Parts) -> None:
    _fields(parts, "indices", 9, lambda indices: indices.__setitem__(1, indices[0]))


@_forged("expected 1 to 3", encoding="csr")
def a_code_without_a_level(parts: Parts) -> None:
    weight = _weight(parts)
    weight["levels"] = 3
    parts.streams[_place(parts, "levels")] = np.array([-1, 0.5, 1], "<f4").tobytes()
    parts.streams[_place(parts, "codes")] = b"\xff" * (weight["nonzeros"] // 4) + bytes(
        [(1 << 2 * (weight["nonzeros"] % 4)) - 1] if weight["nonzeros"] % 4 else []
    )


@_forged("not in ascending order")
def levels_in_another_order(parts: Parts) -> None:
    _edit(parts, "levels", lambda levels: levels.__setitem__(slice(0, 8), levels[4:8] + levels[:4]))


@_forged("not in ascending order")
def a_level_that_is_no_number(parts: Parts) -> None:
    _edit(parts, "levels", lambda levels: levels.__setitem__(slice(4, 8), b"\0\0\xc0\x7f"))


@_forged("holds NaN or infinity")
def an_infinite_gain(parts: Parts) -> None:
    _edit(parts, "gain", lambda gain: gain.__setitem__(slice(0, 4), b"\0\0\x80\xff"))


@_forged("bytes of streams are stored")
def bytes_that_no_stream_names(parts: Parts) -> None:
    parts.streams.append(b"more")


@_forged("are decoded", UnsupportedError)
def rows_without_end(parts: Parts) -> None:
    _weight(parts)["shape"] = [2**62, 400]


@_forged("this release handles fewer", UnsupportedError)
def a_shape_whose_product_overflows(parts: Parts) -> None:
    """2**64 weights, which 64 bits would take for none."""
    _weight(parts, "conv2")["shape"] = [2**16, 2**16, 2**16, 2**16]


@_forged("expected at most 8 integers of 1 or more")
def a_negative_shape(parts: Parts) -> None:
    _weight(parts)["shape"] = [-120, -400]


@_forged("has shape")
def a_value_whose_size_overflows(parts: Parts) -> None:
    parts.index["values"]["flat"]["shape"] = [2**33, 2**33]


@_forged("nonzeros is")
def more_nonzeros_than_weights(parts: Parts) -> None:
    _weight(parts)["nonzeros"] = 48_001


@_forged("names a stream twice")
def a_stream_twice(parts: Parts) -> None:
    _weight(parts)["streams"][1][0] = "levels"


@_forged("tensors: missing ['weight']")
def a_missing_tensor(parts: Parts) -> None:
    first, count = _place(parts, "levels"), len(_weight(parts)["streams"])
    del parts.node("fc1")["tensors"]["weight"]
    del parts.streams[first : first + count]
