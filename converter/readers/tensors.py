"""Reads named tensors, as PyTorch's state dicts are exported: .safetensors and .npz files.

The formats: https://github.com/huggingface/safetensors and numpy.lib.format. Neither holds code;
a .pt file does, and is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.errors import InputError, InvalidModelError, UnsupportedError, located
from deepchip.runtime.arrays import load_arrays

MAX_BYTES = 2**32
"""Of a file."""
MAX_HEADER = 2**21
"""Bytes of the JSON of a .safetensors file, about 20,000 tensors: it takes ten times as many in
memory."""

Tensors = dict[str, NDArray[Any]]


def read_tensors(path: str | os.PathLike[str]) -> Tensors:
    """Return the tensors of a file by name, bfloat16 widened to float32.

    Raises
    ------
    InputError
        There is no such file, or it cannot be read.
    InvalidModelError
        It is damaged, or declares more than it holds.
    UnsupportedError
        It is of another kind or too large, or the `safetensors` package is missing.
    """
    path = Path(path)
    with located(path.name):
        suffix = path.suffix.lower()
        if suffix not in _READERS:
            raise UnsupportedError(
                "weights are read from .safetensors and .npz files only. Save a PyTorch network by "
                "safetensors.torch.save_file(network.state_dict(), 'net.safetensors')"
            )
        try:
            if path.exists() and not path.is_file():
                raise InputError("is no regular file")
            if path.stat().st_size > MAX_BYTES:
                raise UnsupportedError(f"has more than {MAX_BYTES} bytes")
            return _READERS[suffix](path)
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}") from error


_DTYPES: Mapping[str, str] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def _read_safetensors(path: Path) -> Tensors:
    try:
        from safetensors import SafetensorError, deserialize
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            "reading .safetensors needs the extra: pip install 'deepchip[convert]'"
        ) from error
    data = path.read_bytes()
    _check_header(data)
    try:
        found = deserialize(data)
    except SafetensorError as error:
        raise InvalidModelError(f"no safetensors file: {' '.join(str(error).split())}") from None
    return {name: _safetensor(name, tensor) for name, tensor in found}


def _check_header(data: bytes) -> None:
    """Refuse what the package lets pass: very long headers, and one name for two tensors."""
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER:
        raise InvalidModelError(f"declares a header of {size} bytes, expected {MAX_HEADER} at most")
    with suppress(ValueError, RecursionError):  # no JSON: the package says so
        json.loads(data[8 : 8 + size], object_pairs_hook=_once)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = ", ".join(repr(name) for name, _ in pairs)
        raise InvalidModelError(f"names stand twice in its header: {names}")
    return found


def _safetensor(name: str, tensor: Mapping[str, Any]) -> NDArray[Any]:
    dtype = tensor["dtype"]
    if dtype not in _DTYPES:
        raise UnsupportedError(f"{name!r} is {dtype}, expected one of {', '.join(_DTYPES)}")
    array = np.frombuffer(tensor["data"], _DTYPES[dtype]).reshape(tensor["shape"])
    if dtype == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array


def _read_npz(path: Path) -> Tensors:
    try:
        found = load_arrays(path)
    except InputError as error:
        raise InvalidModelError(str(error).removeprefix(f"{path.name}: ")) from None
    for name, array in found.items():
        if array.dtype.kind not in "fiub":
            raise UnsupportedError(f"{name!r} is of dtype {array.dtype}, expected numbers")
    return found


_READERS: Mapping[str, Callable[[Path], Tensors]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
}
