"""A weight tensor as named streams of bytes, and back. SPEC.md describes every encoding.

All encodings of levels decode to the same CSR; `auto` takes the one of fewest bytes. What a
description says is bounded before anything is allocated by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import bitstream, distances, huffman
from .csr import CSR, check_size
from .errors import InputError, InvalidModelError, UnsupportedError
from .graph import LevelWeights, Shape, Tensor

Bytes = NDArray[np.uint8]
Description = dict[str, Any]

MAX_ROWS = 2**20
"""Output channels of one layer: what a file may make the reader allocate without paying for it."""

FREE_SYMBOLS = 2**20
"""Symbols that a stream may stand for beyond one a bit."""


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
        if encoding != "auto" or _most_symbols(encoded.streams) >= len(csr.codes):
            found.append(encoded)
    return min(found, key=lambda encoded: encoded.size)


def decode(
    description: Mapping[str, Any], streams: Mapping[str, Bytes], *, compiled: bool
) -> Tensor:
    """Return the tensor that a description and its streams stand for.

    Weights of levels keep their streams and decode them when asked to; a fault in these streams is
    raised then. `compiled` chooses the Huffman decoder.
    """
    name = _take(description, "encoding", str)
    shape = _shape(description)
    if name == "dense":
        _expect_keys(description, ("encoding", "shape"))
        _expect_streams(streams, {"values": 4 * prod(shape)})
        return _floats(streams["values"], shape)
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
    _bound(nonzeros, streams)
    per_channel = _take(description, "per_channel", bool)
    levels_shape = (shape[0], count) if per_channel else (count,)
    exact = {"levels": 4 * prod(levels_shape)}
    if "gain" in streams:
        exact["gain"] = 4 * shape[0]
    _expect_streams(streams, exact, form.streams)
    numbers = {key: _count(description, key, 2**31) for key in form.numbers}
    _bound(numbers.get("symbols", 0), streams)
    own = {key: streams[key] for key in form.streams}
    stored = _Stored(matrix, count, nonzeros, numbers, own, compiled)

    def decoded() -> CSR:
        csr = form.decode(stored)
        csr.validate(count)
        return csr

    return LevelWeights(
        shape,
        _floats(streams["levels"], levels_shape),
        nonzeros,
        decoded,
        _floats(streams["gain"], (shape[0],)) if "gain" in streams else None,
        name,
        sum(map(len, streams.values())),
    )


@dataclass(frozen=True)
class _Stored:
    """A matrix of level codes in a file; `numbers` and `streams` are the encoding's own."""

    shape: tuple[int, int]
    levels: int
    nonzeros: int
    numbers: Mapping[str, int]
    streams: Mapping[str, Bytes]
    compiled: bool


@dataclass(frozen=True)
class _Form:
    """One encoding: the numbers in its description, the names of its streams, both directions."""

    numbers: tuple[str, ...]
    streams: tuple[str, ...]
    encode: Callable[[CSR, int], tuple[dict[str, int], dict[str, Bytes]]]
    decode: Callable[[_Stored], CSR]


def _code_bits(levels: int) -> int:
    return max(0, levels - 1).bit_length()


def _encode_csr(csr: CSR, levels: int) -> tuple[dict[str, int], dict[str, Bytes]]:
    width = csr.shape[1]
    return {}, {
        "row_lengths": bitstream.pack(np.diff(csr.indptr), width.bit_length()),
        "indices": bitstream.pack(csr.indices, (width - 1).bit_length()),
        "codes": bitstream.pack(csr.codes - 1, _code_bits(levels)),
    }


def _decode_csr(stored: _Stored) -> CSR:
    rows, width = stored.shape
    nonzeros, streams = stored.nonzeros, stored.streams
    # The streams' lengths bound what these counts can make `unpack` allocate.
    lengths = bitstream.unpack(streams["row_lengths"], width.bit_length(), rows)
    total = int(lengths.sum(dtype=np.int64))
    if total != nonzeros:
        raise InvalidModelError(f"rows hold {total} nonzeros, the description says {nonzeros}")
    indptr = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32)
    indices = bitstream.unpack(streams["indices"], (width - 1).bit_length(), nonzeros)
    codes = bitstream.unpack(streams["codes"], _code_bits(stored.levels), nonzeros)
    return CSR(stored.shape, indptr, indices.astype(np.int32), _one_up(codes))


def _encode_runlength(csr: CSR, levels: int) -> tuple[dict[str, int], dict[str, Bytes]]:
    positions = csr.positions()
    width = distances.best_width(positions)
    symbols = distances.encode(positions, width)
    return {"distance_bits": width, "symbols": len(symbols)}, {
        "distances": bitstream.pack(symbols, width),
        "codes": bitstream.pack(csr.codes - 1, _code_bits(levels)),
    }


def _decode_runlength(stored: _Stored) -> CSR:
    width = _width(stored.numbers)
    symbols = bitstream.unpack(stored.streams["distances"], width, stored.numbers["symbols"])
    codes = bitstream.unpack(stored.streams["codes"], _code_bits(stored.levels), stored.nonzeros)
    return _from_symbols(stored, width, symbols.astype(np.uint8), codes)


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


def _decode_huffman(stored: _Stored) -> CSR:
    width, streams = _width(stored.numbers), stored.streams
    table = huffman.read_lengths(streams["distance_table"], 2**width)
    symbols = huffman.decode(
        streams["distances"], table, stored.numbers["symbols"], compiled=stored.compiled
    )
    code_table = huffman.read_lengths(streams["code_table"], stored.levels)
    codes = huffman.decode(streams["codes"], code_table, stored.nonzeros, compiled=stored.compiled)
    return _from_symbols(stored, width, symbols, codes)


def _from_symbols(
    stored: _Stored, width: int, symbols: Bytes, codes: NDArray[np.unsignedinteger[Any]]
) -> CSR:
    size = stored.shape[0] * stored.shape[1]
    positions = distances.decode(symbols, width, size, stored.nonzeros)
    return CSR.from_positions(stored.shape, positions, _one_up(codes))


def _one_up(codes: NDArray[np.unsignedinteger[Any]]) -> Bytes:
    """Return stored codes 0 to L - 1 as codes 1 to L; 255, of eight bits, as 0, which is none."""
    return codes.astype(np.uint8) + np.uint8(1)


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


def _bound(count: int, streams: Mapping[str, Bytes]) -> None:
    """Refuse counts that no bits stand for: one symbol repeated is sent in none."""
    most = _most_symbols(streams)
    if count > most:
        raise UnsupportedError(f"{count} symbols in {most // 8} bytes; at most {most} are decoded")


def _most_symbols(streams: Mapping[str, Bytes]) -> int:
    return FREE_SYMBOLS + 8 * sum(map(len, streams.values()))


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
    streams: Mapping[str, Bytes], exact: Mapping[str, int], others: tuple[str, ...] = ()
) -> None:
    expected = [*exact, *others]
    if list(streams) != expected:
        raise InvalidModelError(f"streams are {list(streams)}, expected {expected}")
    for name, size in exact.items():
        if len(streams[name]) != size:
            raise InvalidModelError(f"{name} has {len(streams[name])} bytes, expected {size}")


def _floats(stream: Bytes, shape: Shape) -> NDArray[np.float32]:
    return stream.view("<f4").astype(np.float32).reshape(shape)
