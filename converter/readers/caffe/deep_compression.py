"""Reads networks as Deep Compression's authors publish them: a .net file beside a .prototxt.

Han, Mao, Dally, *Deep Compression*, ICLR 2016, with the stage of Huffman codes left out. The file,
little-endian, as the decoder that was published with it reads it:

    uint32 entries of each layer with weights, in the order of the description; then for each layer
    float32 codebook [256], or [16] unless the layer's name holds "conv"; entry 0 is 0.0
    float32 bias [outputs], if there is one
    codes, 8 or 4 bits of each entry, then its 4-bit distances; of 4 bits the lower half comes first

Entry i stands at position sum(distance[0..i] + 1) - 1 of the flattened weights (O, I, H, W). Where
zeros go on for too long, an entry of code 0 fills the gap.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.csr import CSR, SIZE_LIMIT
from deepchip.formats.encodings import MAX_ROWS
from deepchip.formats.errors import InputError, InvalidModelError, UnsupportedError, located
from deepchip.formats.graph import Graph, LevelWeights, Shape, Tensor

from .network import Network, read_network
from .prototxt import MAX_CHARACTERS

MAX_BYTES = 2**30


def read_deep_compression(path: str | os.PathLike[str], prototxt: str | os.PathLike[str]) -> Graph:
    """Read a Deep Compression file and Caffe's description of its network.

    The entries of a codebook become the levels of the layer as they are; those that no weight
    takes are left out. Values and layers keep Caffe's names.

    Raises
    ------
    InputError
        There is no such file, or it cannot be read.
    InvalidModelError
        A file is damaged, or the two do not belong together.
    UnsupportedError
        The description holds layers or settings that DeepChip does not do.
    """
    path, prototxt = Path(path), Path(prototxt)
    with located(prototxt.name):
        network = read_network(_text(_read(prototxt, MAX_CHARACTERS)))
    with located(path.name):
        data = _read(path, MAX_BYTES)
    with located(f"{path.name} with {prototxt.name}"):
        return _build(network, data)


def _read(path: Path, most: int) -> bytes:
    try:
        if path.stat().st_size > most:
            raise UnsupportedError(f"has more than {most} bytes")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidModelError(f"byte {error.start} is no UTF-8") from None


def _build(network: Network, data: bytes) -> Graph:
    file = _File(data, network.weighted)
    graph = network.build(file.tensors)
    file.check_finished()
    return graph


class _File:
    """The bytes of a .net file, read once from beginning to end."""

    def __init__(self, data: bytes, layers: int) -> None:
        self._data = data
        self._at = 0
        self._counts = iter(self._take("entry counts", "<u4", layers).tolist())

    def tensors(self, name: str, shape: Shape, bias: bool) -> Mapping[str, Tensor]:
        """Return the weights of the next layer, and its bias if it has one."""
        with located(f"layer {name!r}"):
            size = prod(shape)
            if shape[0] > MAX_ROWS or size >= SIZE_LIMIT:
                raise UnsupportedError(
                    f"weights of shape {shape}; at most {MAX_ROWS} rows and fewer than "
                    f"{SIZE_LIMIT} weights are supported"
                )
            count = next(self._counts)
            if count > size:
                raise InvalidModelError(f"{count} entries for weights of shape {shape}")
            bits = _code_bits(name)
            codebook = self._take("codebook", "<f4", 2**bits).astype(np.float32)
            tensors: dict[str, Tensor] = {}
            if bias:
                tensors["bias"] = self._take("bias", "<f4", shape[0]).astype(np.float32)
            codes = self._fields("codes", bits, count)
            distances = self._fields("distances", 4, count)
            tensors["weight"] = _weight(shape, codebook, codes, distances)
            return tensors

    def check_finished(self) -> None:
        """Raise if bytes are left."""
        left = len(self._data) - self._at
        if left:
            raise InvalidModelError(f"{left} bytes are left behind the last layer")

    def _fields(self, what: str, bits: int, count: int) -> NDArray[np.uint8]:
        """Take unsigned numbers of 8 or 4 bits."""
        if bits == 8:
            return self._take(what, "u1", count)
        packed = self._take(what, "u1", (count + 1) // 2)
        return np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:count]

    def _take(self, what: str, dtype: str, count: int) -> NDArray[Any]:
        start, size = self._at, count * np.dtype(dtype).itemsize
        left = len(self._data) - start
        if size > left:
            raise InvalidModelError(f"{what} of {size} bytes, the file has {left} left")
        self._at = start + size
        return np.frombuffer(self._data, dtype, count, start)


def _code_bits(name: str) -> int:
    """Return the bits of a code, which the authors' tools tell by the name of the layer."""
    if "conv" in name:
        return 8
    if "fc" in name or "ip" in name:
        return 4
    raise UnsupportedError(
        "the file holds layers named after conv, fc or ip only; its codes have 8 bits in the first "
        "and 4 in the others"
    )


def _weight(
    shape: Shape,
    codebook: NDArray[np.float32],
    codes: NDArray[np.uint8],
    distances: NDArray[np.uint8],
) -> LevelWeights:
    if codebook[0] != 0:
        raise InvalidModelError(f"the codebook begins with {codebook[0]}, expected 0.0")
    if not np.isfinite(codebook).all():
        raise InvalidModelError("the codebook holds NaN or infinity")
    positions = np.cumsum(distances + 1, dtype=np.int64) - 1
    if positions.size and positions[-1] >= prod(shape):
        raise InvalidModelError(
            f"the entries reach position {positions[-1]}, weights of shape {shape} have "
            f"{prod(shape)}"
        )
    kept = codebook[codes] != 0
    used, levels_of = np.unique(codebook[codes[kept]], return_inverse=True)
    matrix = (shape[0], prod(shape[1:]))
    csr = CSR.from_positions(matrix, positions[kept], (levels_of + 1).astype(np.uint8))
    return LevelWeights.of(shape, used, csr)
