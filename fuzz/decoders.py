"""Targets that decode: what is refused is refused by an error of ours, what is read is right.

Each target takes any bytes, and raises AssertionError, or anything that is no error of ours, where
a decoder is wrong. NumPy and Numba have to agree, and to encode again has to give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deepchip.formats import bitstream, distances, encodings, huffman
from deepchip.formats.csr import CSR
from deepchip.formats.errors import DeepChipError
from deepchip.formats.graph import LevelWeights
from deepchip.formats.storage import Stream

from .bits import Bits

MOST = 2**12
"""Symbols that one try decodes at most."""


def fields(data: bytes) -> None:
    """`bitstream`: fields of a width."""
    bits = Bits(data)
    width, count, packed = bits.number(40), bits.number(MOST), bits.rest()
    found = _tried(lambda: np.concatenate(list(bitstream.unpack(packed, width, count))))
    if found is not None:
        assert found.size == count
        assert bitstream.pack(found, width).tobytes() == packed.tobytes()


def huffman_codes(data: bytes) -> None:
    """`huffman`: a table, and symbols in its codes."""
    bits = Bits(data)
    n, count, table, payload = bits.number(300), bits.number(MOST), bits.piece(255), bits.rest()

    def decoded(compiled: bool) -> Any:
        lengths = huffman.read_lengths(table, n)
        found = list(huffman.decode(payload, lengths, count, compiled=compiled))
        return lengths, np.concatenate([np.zeros(0, np.uint8), *found])

    found = _alike(decoded)
    if found is not None:
        lengths, symbols = found
        assert symbols.size == count
        assert huffman.write_lengths(lengths).tobytes() == table.tobytes()
        assert huffman.encode(symbols, lengths).tobytes() == payload.tobytes()


def distance_vectors(data: bytes) -> None:
    """`distances`: symbols, in two parts."""
    bits = Bits(data)
    width, size, count = bits.number(9), bits.number(2**32 - 1), bits.number(MOST)
    parts = [bits.piece().copy(), bits.rest().copy()]  # as they come: nobody else's

    def decoded(compiled: bool) -> Any:
        found = list(distances.decode(parts, width, size, count, compiled=compiled))
        return np.concatenate([np.zeros(0, np.int32), *found])

    found = _alike(decoded)
    if found is not None:
        assert found.size == count
        assert np.all(np.diff(found.astype(np.int64)) > 0)
        assert count == 0 or 0 <= found[0] <= found[-1] < size
        sent = np.concatenate(parts)
        assert distances.encode(found, width).tobytes() == sent.tobytes()


def csr(data: bytes) -> None:
    """`csr`: arrays that say they are a matrix; some numbers of them are anything."""
    bits = Bits(data)
    columns, levels = bits.number(2**17), bits.number(255)
    indptr = np.cumsum(np.append(np.uint8(0), bits.piece(30)), dtype=np.int32)
    indices = bits.piece(255).astype(np.int32)
    for array in (indptr, indices):
        for _ in range(bits.number(2)):
            array[bits.number(255) % max(1, array.size) :][:1] = np.uint32(
                bits.number(2**32 - 1)
            ).astype(np.int32)
    codes = np.resize(np.append(bits.rest(), np.uint8(1)), indices.size).astype(np.uint8)
    shape = (indptr.size - 1, columns)
    matrix = CSR(shape, indptr, indices, codes)

    def validated(compiled: bool) -> Any:
        matrix.validate(levels, compiled=compiled)
        return matrix.positions()

    positions = _alike(validated)
    if positions is not None:
        assert np.all(np.diff(positions) > 0)
        again = CSR.from_positions(shape, positions, codes)
        for one, other in ((again.indptr, matrix.indptr), (again.indices, matrix.indices)):
            np.testing.assert_array_equal(one, other)


def tensors(data: bytes) -> None:
    """`encodings.decode`: a description, and its streams."""
    bits = Bits(data)
    name = ("dense", "csr", "runlength", "huffman", "other")[bits.number(4)]
    shape = [bits.number(70) for _ in range(bits.number(3))]
    description: dict[str, Any] = {"encoding": name, "shape": shape}
    names = ["values"]
    if name != "dense":
        description |= {
            "levels": bits.number(256),
            "per_channel": bool(bits.number(1)),
            "nonzeros": bits.number(MOST),
        }
        names = ["levels", *(["gain"] if bits.number(1) else [])]
        if name in encodings.ENCODINGS:
            names += encodings.ENCODINGS[name].streams
    if name in ("runlength", "huffman"):
        description |= {"distance_bits": bits.number(9), "symbols": bits.number(MOST)}
    stored = {key: bits.piece() for key in names}
    streams = {key: Stream(len(part), lambda part=part: part) for key, part in stored.items()}

    def decoded(compiled: bool) -> Any:
        tensor = encodings.decode(description, streams, compiled=compiled)
        if not isinstance(tensor, LevelWeights):
            return tensor, tensor
        with np.errstate(all="ignore"):  # levels may be anything
            return tensor.decode().to_dense(), tensor.to_dense()

    found = _alike(decoded)
    if found is not None and name != "dense":
        tensor = encodings.decode(description, streams, compiled=False)
        assert isinstance(tensor, LevelWeights)
        rows = [group.to_dense() for group in tensor.rows(3)]
        np.testing.assert_array_equal(np.concatenate(rows), found[0])
        assert np.count_nonzero(found[0]) == tensor.nonzeros
        again = encodings.encode(tensor, name)
        if description.get("distance_bits") == again.description.get("distance_bits"):
            theirs = {key: part.tobytes() for key, part in again.streams.items()}
            if name != "huffman":  # tables need not be the best ones
                assert theirs == {key: part.tobytes() for key, part in stored.items()}


def _tried(function: Callable[[], Any]) -> Any:
    """Return what a function gives, or None if it refuses."""
    try:
        return function()
    except DeepChipError as error:
        assert str(error).isprintable()
        return None


def _alike(function: Callable[[bool], Any]) -> Any:
    """Return what a decoder gives, or None; NumPy and Numba have to agree."""
    plain, compiled = (_tried(lambda by=by: function(by)) for by in (False, True))
    assert (plain is None) == (compiled is None)
    for one, other in zip(_arrays(plain), _arrays(compiled), strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    return plain


def _arrays(found: Any) -> tuple[Any, ...]:
    return () if found is None else found if isinstance(found, tuple) else (found,)
