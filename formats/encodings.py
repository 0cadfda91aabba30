"""A weight tensor as named streams of bytes, and back. SPEC.md describes every encoding.

All encodings of levels decode to the same CSR; `auto` takes the one of fewest bytes. What a
description says is bounded before anything is allocated by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import bitstream, distances, huffman
from .csr import CSR, check_size
from .errors import InputError, InvalidModelError, UnsupportedError
from .graph import LevelWeights, Shape, Tensor
from .pieces import Pieces, row_groups
from .storage import Bytes, Stream

Description = dict[str, Any]

MAX_ROWS = 2**20
"""Output channels of one layer: what a file may make the reader allocate without paying for it."""

FREE_SYMBOLS = 2**20
"""Rows, symbols or nonzeros that a file may declare beyond eight for each byte of a tensor."""


class Allowance:
    """What a file may make a reader do without paying for it in bytes.

    One symbol repeated is sent in no bits, and so are empty rows. All tensors of a file share the
    allowance: a layer costs 500 bytes of JSON, which zlib packs into 20.
    """

    def __init__(self) -> None:
        self._left = FREE_SYMBOLS

    def spend(self, description: Mapping[str, Any], size: int) -> None:
        """Take what a tensor of `size` bytes declares, by whatever its description says.

        Raises
        ------
        UnsupportedError
            Nothing is left.
        """
        shape = description.get("shape")
        rows = shape[:1] if type(shape) is list else []
        numbers = (*rows, description.get("nonzeros"), description.get("symbols"))
        count = max((number for number in numbers if type(number) is int), default=0)
        most = self._left + 8 * size
        if count > most:
            raise UnsupportedError(
                f"{count} rows or symbols in {size} bytes; at most {most} are decoded"
            )
        self._left -= max(0, count - 8 * size)


@dataclass(frozen=True)
class Encoded:
    """A tensor in its stored form: a JSON-able description, and its streams in their order."""

    description: Description
    streams: dict[str, Bytes]

    @property
    def size(self) -> int:
        """Bytes of all streams."""
        return sum(len(stream) for stream in self.streams.values())


def encode(tensor: Tensor, encoding: str = "auto") -> Encoded:
    """Return the stored form of a tensor.

    Parameters
    ----------
    encoding : for weights of levels "csr", "runlength", "huffman" or "auto", the smallest of them;
        float32 arrays are always "dense"
    """
    if not isinstance(tensor, LevelWeights):
        values = np.ascontiguousarray(tensor, "<f4").reshape(-1).view(np.uint8)
        return Encoded({"encoding": "dense", "shape": list(tensor.shape)}, {"values": values})
    names = list(ENCODINGS) if encoding == "auto" else [encoding]
    if not set(names) <= set(ENCODINGS):
        allowed = ", ".join(["auto", *ENCODINGS])
        raise InputError(f"encoding is {encoding!r}, expected one of {allowed}")
    csr = tensor.decode()
    csr.validate(tensor.levels.shape[-1])
    matrix = (tensor.shape[0], prod(tensor.shape[1:]))
    if csr.shape != matrix or len(csr.codes) != tensor.nonzeros:
        raise InvalidModelError(
            f"codes of shape {csr.shape} with {len(csr.codes)} nonzeros stand for weights of shape "
            f"{tensor.shape} with {tensor.nonzeros}"
        )
    description: Description = {
        "shape": list(tensor.shape),
        "levels": tensor.levels.shape[-1],
        "per_channel": tensor.levels.ndim == 2,
        "nonzeros": tensor.nonzeros,
    }
    streams = {"levels": np.ascontiguousarray(tensor.levels, "<f4").reshape(-1).view(np.uint8)}
    if tensor.gain is not None:
        streams["gain"] = np.ascontiguousarray(tensor.gain, "<f4").view(np.uint8)
    found = []
    for name in names:
        numbers, own = ENCODINGS[name].encode(csr, tensor.levels.shape[-1])
        encoded = Encoded({"encoding": name, **description, **numbers}, {**streams, **own})
        if encoding != "auto" or FREE_SYMBOLS + 8 * encoded.size >= len(csr.codes):
            found.append(encoded)
    return min(found, key=lambda encoded: encoded.size)


def decode(
    description: Mapping[str, Any], streams: Mapping[str, Stream], *, compiled: bool
) -> Tensor:
    """Return the tensor that a description and its streams stand for.

    Weights of levels read and decode their codes when asked to; a fault in these streams is raised
    then. `compiled` chooses the decoders.
    """
    name = _take(description, "encoding", str)
    shape = _shape(description)
    if name == "dense":
        _expect_keys(description, ("encoding", "shape"))
        _expect_streams(streams, {"values": 4 * prod(shape)})
        return _floats(streams["values"].read(), shape)
    if name not in ENCODINGS:
        raise InvalidModelError(f"encoding {name!r} is unknown")
    form = ENCODINGS[name]
    _expect_keys(
        description, ("encoding", "shape", "levels", "per_channel", "nonzeros", *form.numbers)
    )
    if not shape:
        raise InvalidModelError("weights of levels have no dimensions, expected one or more")
    matrix = (shape[0], prod(shape[1:]))
    check_size(matrix)
    count = _count(description, "levels", 255)
    nonzeros = _count(description, "nonzeros", prod(matrix))
    per_channel = _take(description, "per_channel", bool)
    levels_shape = (shape[0], count) if per_channel else (count,)
    exact = {"levels": 4 * prod(levels_shape)}
    if "gain" in streams:
        exact["gain"] = 4 * shape[0]
    _expect_streams(streams, exact, form.streams)
    numbers = {key: _count(description, key, 2**31) for key in form.numbers}
    size = sum(stream.size for stream in streams.values())
    Allowance().spend(description, size)
    stored = _Stored(matrix, count, nonzeros, numbers, streams, compiled)

    def rows(step: int) -> Iterator[CSR]:
        for group in form.decode(stored, step):
            group.validate(count, compiled=compiled)
            yield group

    return LevelWeights(
        shape,
        _floats(streams["levels"].read(), levels_shape),
        nonzeros,
        rows,
        _floats(streams["gain"].read(), (shape[0],)) if "gain" in streams else None,
        name,
        size,
    )


@dataclass(frozen=True)
class _Stored:
    """A matrix of level codes in a file; `numbers` are the encoding's own."""

    shape: tuple[int, int]
    levels: int
    nonzeros: int
    numbers: Mapping[str, int]
    streams: Mapping[str, Stream]
    compiled: bool

    def read(self, name: str) -> Bytes:
        return self.streams[name].read()


@dataclass(frozen=True)
class _Form:
    """One encoding: the numbers in its description, the names of its streams, both directions."""

    numbers: tuple[str, ...]
    streams: tuple[str, ...]
    encode: Callable[[CSR, int], tuple[dict[str, int], dict[str, Bytes]]]
    decode: Callable[[_Stored, int], Iterator[CSR]]


def _code_bits(levels: int) -> int:
    return max(0, levels - 1).bit_length()


def _encode_csr(csr: CSR, levels: int) -> tuple[dict[str, int], dict[str, Bytes]]:
    width = csr.shape[1]
    return {}, {
        "row_lengths": bitstream.pack(np.diff(csr.indptr), width.bit_length()),
        "indices": bitstream.pack(csr.indices, (width - 1).bit_length()),
        "codes": bitstream.pack(csr.codes - 1, _code_bits(levels)),
    }


def _decode_csr(stored: _Stored, step: int) -> Iterator[CSR]:
    rows, width = stored.shape
    row_lengths = stored.read("row_lengths"), width.bit_length(), rows
    total = sum(int(part.sum(dtype=np.int64)) for part in bitstream.unpack(*row_lengths))
    if total != stored.nonzeros:
        raise InvalidModelError(
            f"rows hold {total} nonzeros, the description says {stored.nonzeros}"
        )
    lengths = Pieces(bitstream.unpack(*row_lengths), np.uint32)
    fields = bitstream.unpack(stored.read("indices"), (width - 1).bit_length(), stored.nonzeros)
    indices, codes = Pieces(fields, np.int32), Pieces(_packed_codes(stored), np.uint8)
    for first in range(0, rows, step):
        here = lengths.take(min(step, rows - first))
        indptr = np.zeros(here.size + 1, np.int32)
        np.cumsum(here, out=indptr[1:])
        count = int(indptr[-1])
        yield CSR((here.size, width), indptr, indices.take(count), codes.take(count))


def _packed_codes(stored: _Stored) -> Iterator[Bytes]:
    data = stored.read("codes")
    return map(_one_up, bitstream.unpack(data, _code_bits(stored.levels), stored.nonzeros))


def _encode_runlength(csr: CSR, levels: int) -> tuple[dict[str, int], dict[str, Bytes]]:
    positions = csr.positions()
    width = distances.best_width(positions)
    symbols = distances.encode(positions, width)
    return {"distance_bits": width, "symbols": len(symbols)}, {
        "distances": bitstream.pack(symbols, width),
        "codes": bitstream.pack(csr.codes - 1, _code_bits(levels)),
    }


def _decode_runlength(stored: _Stored, step: int) -> Iterator[CSR]:
    width = _width(stored.numbers)
    symbols = bitstream.unpack(stored.read("distances"), width, stored.numbers["symbols"])
    return _from_symbols(stored, width, symbols, _packed_codes(stored), step)


def _encode_huffman(csr: CSR, levels: int) -> tuple[dict[str, int], dict[str, Bytes]]:
    positions, codes = csr.positions(), csr.codes - np.uint8(1)
    candidates = []
    for width in distances.WIDTHS:
        counts = distances.symbol_counts(positions, width)
        table = huffman.code_lengths(counts)
        bits = int(counts @ table.astype(np.int64)) + 8 * len(huffman.write_lengths(table))
        candidates.append((bits, width, table))
    _, width, table = min(candidates, key=lambda candidate: candidate[:2])
    symbols = distances.encode(positions, width)
    code_table = huffman.code_lengths(huffman.symbol_counts(codes, levels))
    return {"distance_bits": width, "symbols": len(symbols)}, {
        "distance_table": huffman.write_lengths(table),
        "distances": huffman.encode(symbols, table),
        "code_table": huffman.write_lengths(code_table),
        "codes": huffman.encode(codes, code_table),
    }


def _decode_huffman(stored: _Stored, step: int) -> Iterator[CSR]:
    width, compiled = _width(stored.numbers), stored.compiled
    table = huffman.read_lengths(stored.read("distance_table"), 2**width)
    distance_symbols = huffman.decode(
        stored.read("distances"), table, stored.numbers["symbols"], compiled=compiled
    )
    code_table = huffman.read_lengths(stored.read("code_table"), stored.levels)
    codes = huffman.decode(stored.read("codes"), code_table, stored.nonzeros, compiled=compiled)
    return _from_symbols(stored, width, distance_symbols, map(_one_up, codes), step)


def _from_symbols(
    stored: _Stored, width: int, symbols: Iterator[Bytes], codes: Iterator[Bytes], step: int
) -> Iterator[CSR]:
    size = stored.shape[0] * stored.shape[1]
    positions = distances.decode(symbols, width, size, stored.nonzeros, compiled=stored.compiled)
    return row_groups(stored.shape, positions, codes, step, compiled=stored.compiled)


def _one_up(codes: Bytes) -> Bytes:
    """Return stored codes 0 to L - 1 as codes 1 to L; 255, of eight bits, as 0, which is none."""
    return codes + np.uint8(1)


ENCODINGS: Mapping[str, _Form] = {
    "csr": _Form((), ("row_lengths", "indices", "codes"), _encode_csr, _decode_csr),
    "runlength": _Form(
        ("distance_bits", "symbols"), ("distances", "codes"), _encode_runlength, _decode_runlength
    ),
    "huffman": _Form(
        ("distance_bits", "symbols"),
        ("distance_table", "distances", "code_table", "codes"),
        _encode_huffman,
        _decode_huffman,
    ),
}


def _take(
    description: Mapping[str, Any],
    key: str,
    kind: type,
) -> Any:
    value = description.get(key)
    if type(value) is not kind:
        raise InvalidModelError(f"{key} is {str(value)[:80]!r}, expected {kind.__name__}")
    return value


def _count(description: Mapping[str, Any], key: str, most: int) -> int:
    value = description.get(key)
    if type(value) is not int or not 0 <= value <= most:
        raise InvalidModelError(f"{key} is {str(value)[:80]!r}, expected an integer up to {most}")
    return value


def _shape(description: Mapping[str, Any]) -> Shape:
    shape = tuple(_take(description, "shape", list))
    if not 0 <= len(shape) <= 8 or not all(type(n) is int and n >= 1 for n in shape):
        raise InvalidModelError(f"shape is {shape}, expected at most 8 integers of 1 or more")
    if shape and shape[0] > MAX_ROWS:
        raise InvalidModelError(f"shape {shape} has more than {MAX_ROWS} rows")
    return shape


def _width(numbers: Mapping[str, int]) -> int:
    width = numbers["distance_bits"]
    if width not in distances.WIDTHS:
        raise InvalidModelError(f"distances of {width} bits, expected 2 to 8")
    return width


def _expect_keys(description: Mapping[str, Any], expected: tuple[str, ...]) -> None:
    if set(description) != set(expected):
        raise InvalidModelError(
            f"a {description['encoding']} tensor is described by {sorted(description)}, "
            f"expected {sorted(expected)}"
        )


def _expect_streams(
    streams: Mapping[str, Stream], exact: Mapping[str, int], others: tuple[str, ...] = ()
) -> None:
    expected = [*exact, *others]
    if list(streams) != expected:
        raise InvalidModelError(f"streams are {list(streams)}, expected {expected}")
    for name, size in exact.items():
        if streams[name].size != size:
            raise InvalidModelError(f"{name} has {streams[name].size} bytes, expected {size}")


def _floats(stream: Bytes, shape: Shape) -> NDArray[np.float32]:
    return stream.view("<f4").astype(np.float32).reshape(shape)
