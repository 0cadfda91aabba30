"""The model file: an index and the streams of each layer in an HDF5 file. SPEC.md describes it.

The only module that imports h5py. The reader trusts nothing: it follows no link but a hard one,
opens plain arrays of bytes only, and believes no size before it has compared it with the file's.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from deepchip._version import __version__

from . import index as index_json
from .check import MAX_NAME, check_graph
from .encodings import decode, encode
from .errors import DeepChipError, InvalidModelError, UnsupportedError, located
from .graph import Graph, LevelWeights, Tensor
from .index import Entries, StreamEntry

FORMAT = b"deepchip"
VERSION = 1
MAX_INDEX = 2**22
"""Bytes of an index, unpacked."""

Source = str | os.PathLike[str] | bytes | BinaryIO


def write_model(graph: Graph, target: str | os.PathLike[str], encoding: str = "auto") -> None:
    """Write `graph` beside `target`, read it back, and put it in the place of `target`.

    Parameters
    ----------
    encoding : of weights of levels; see `encodings.encode`

    Raises
    ------
    InvalidModelError
        The graph contradicts itself; nothing is written.
    OSError
        The file cannot be written; what `target` was before stays.
    """
    path = Path(target)
    temporary = path.with_name(f".deepchip-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(model_bytes(graph, encoding))
            file.flush()
            os.fsync(file.fileno())  # or the rename could reach the disk before the bytes
        read_model(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def model_bytes(graph: Graph, encoding: str = "auto") -> bytes:
    """Return the model file of `graph`; arguments and errors as of `write_model`."""
    check_graph(graph)
    buffer = io.BytesIO()
    _write(graph, buffer, encoding)
    return buffer.getvalue()


def _write(graph: Graph, buffer: io.BytesIO, encoding: str) -> None:
    # Checksummed metadata and small headers, yet readable by HDF5 1.10.
    with h5py.File(buffer, "w", libver=("v110", "v110")) as file:
        tensors: list[Entries] = []
        for position, node in enumerate(graph.nodes):
            entries: Entries = {}
            parts: list[NDArray[np.uint8]] = []
            for name, tensor in node.tensors.items():
                with located(f"layer {node.name!r}"):
                    encoded = encode(tensor, encoding)
                entries[name] = (
                    encoded.description,
                    [
                        StreamEntry(stream, len(data), _sha256(data))
                        for stream, data in encoded.streams.items()
                    ],
                )
                parts.extend(encoded.streams.values())
            if sum(map(len, parts)):
                file.create_dataset(str(position), data=np.concatenate(parts))
            tensors.append(entries)
        text = zlib.compress(index_json.to_json(graph, f"deepchip {__version__}", tensors), 9)
        file.create_dataset("index", data=np.frombuffer(text, np.uint8))
        file.attrs["format"] = np.frombuffer(FORMAT, np.uint8)
        file.attrs["version"] = np.uint32(VERSION)
        file.attrs["index_sha256"] = np.frombuffer(hashlib.sha256(text).digest(), np.uint8)


def read_model(source: Source, *, compiled: bool = False) -> Graph:
    """Return the graph of a model file; weights of levels keep their streams and decode later.

    Parameters
    ----------
    source : path, the file's bytes, or a binary file object
    compiled : whether streams are later decoded by the compiled decoder

    Raises
    ------
    InvalidModelError
        The file is damaged: the text names the layer and what is wrong with it.
    UnsupportedError
        It is of a version that this release does not read.
    """
    graph = _read(source, compiled, lambda layer, load: load())
    check_graph(graph)
    return graph


def verify_model(source: Source) -> tuple[Graph | None, list[str]]:
    """Read a model file as far as it goes, and decode every stream of it.

    Returns
    -------
    The graph, or None if there are faults; and a line for each fault.
    """
    faults: list[str] = []

    def checked(layer: str, load: Load) -> Mapping[str, Tensor]:
        try:
            tensors = load()
            for name, tensor in tensors.items():
                if isinstance(tensor, LevelWeights):
                    with located(f"layer {layer!r}"), located(name):
                        tensor.decode()
            return tensors
        except DeepChipError as error:
            faults.append(str(error))
            return {}

    graph = None
    try:
        graph = _read(source, False, checked)
        if not faults:
            check_graph(graph)
    except DeepChipError as error:
        faults.append(str(error))
    return (None if faults else graph), faults


Load = Callable[[], Mapping[str, Tensor]]
Take = Callable[[str, Load], Mapping[str, Tensor]]


def _read(source: Source, compiled: bool, take: Take) -> Graph:
    """Read a file; `take` is given a layer's name and how to load its tensors, and gives them."""
    with _open(source) as (file, size):
        _check_version(file)
        text = _bytes_of(file, "index", size, MAX_INDEX)
        digest = _attribute(file, "index_sha256", 32)
        if _sha256(text) != digest.tobytes().hex():
            raise InvalidModelError("the index does not match its SHA-256; get the file again")

        def resolve(position: int, name: str, entries: Entries) -> Mapping[str, Tensor]:
            def load() -> Mapping[str, Tensor]:
                with located(f"layer {name[:MAX_NAME]!r}"):
                    return _tensors(entries, _streams_of(file, position, size, entries), compiled)

            return take(name[:MAX_NAME], load)

        return index_json.from_json(_unpacked(text.tobytes()), resolve)


def _streams_of(file: h5py.File, position: int, size: int, entries: Entries) -> NDArray[np.uint8]:
    wanted = sum(entry.size for _, streams in entries.values() for entry in streams)
    if not wanted:
        return np.zeros(0, np.uint8)
    with _damage("damaged"):
        data = _bytes_of(file, str(position), size, wanted)
    if len(data) != wanted:
        raise InvalidModelError(f"{len(data)} bytes are stored, the index says {wanted}")
    return data


def _unpacked(text: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(text, MAX_INDEX)
    except zlib.error as error:
        raise InvalidModelError(f"the index does not unpack: {error}") from None
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidModelError(f"the index unpacks to more than {MAX_INDEX} bytes, or not wholly")
    return found


def _sha256(data: NDArray[np.uint8]) -> str:
    return hashlib.sha256(data.data).hexdigest()


def _tensors(entries: Entries, data: NDArray[np.uint8], compiled: bool) -> Mapping[str, Tensor]:
    """Cut a layer's bytes into streams, compare each with its digest, and decode."""
    tensors = {}
    start = 0
    for name, (description, listed) in entries.items():
        streams = {}
        for entry in listed:
            stream = data[start : start + entry.size]
            start += entry.size
            if _sha256(stream) != entry.sha256:
                raise InvalidModelError(
                    f"{name}: stream {entry.name[:80]!r} does not match its SHA-256; "
                    "get the file again"
                )
            streams[entry.name] = stream
        with located(name):
            tensors[name] = decode(description, streams, compiled=compiled)
    return tensors


@contextmanager
def _open(source: Source) -> Iterator[tuple[h5py.File, int]]:
    """Open `source` and give its size; whatever HDF5 says of its contents is one line of ours."""
    if isinstance(source, (str, os.PathLike)):
        stream: BinaryIO = open(source, "rb")  # noqa: SIM115 (closed below, if it is ours)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        stream = io.BytesIO(source)
    else:
        stream = source
    try:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        with _damage("damaged, or no model file at all"), h5py.File(stream, "r") as file:
            yield file, size
    finally:
        if stream is not source:
            stream.close()


@contextmanager
def _damage(text: str) -> Iterator[None]:
    """Turn what h5py raises for a damaged file into one line."""
    try:
        yield
    except DeepChipError:
        raise
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidModelError(f"{text}: {reason}") from None


def _check_version(file: h5py.File) -> None:
    if "format" not in file.attrs or _attribute(file, "format", 8).tobytes() != FORMAT:
        raise InvalidModelError("an HDF5 file, but no DeepChip model")
    version = int(_attribute(file, "version", None))
    if version != VERSION:
        raise UnsupportedError(
            f"format version {version}; this release reads {VERSION}. "
            "Upgrade deepchip, or convert again"
        )


def _attribute(file: h5py.File, name: str, count: int | None) -> NDArray[np.uint8]:
    """Return a root attribute of `count` bytes, or (None) of one uint32."""
    if name not in file.attrs:
        raise InvalidModelError(f"attribute {name!r} is missing")
    found = file.attrs.get_id(name)
    shape, dtype = ((), np.uint32) if count is None else ((count,), np.uint8)
    if found.shape != shape or found.dtype != dtype:
        raise InvalidModelError(
            f"attribute {name!r} is {found.dtype} {found.shape}, expected {np.dtype(dtype)} {shape}"
        )
    return np.asarray(file.attrs[name])


def _bytes_of(file: h5py.File, name: str, size: int, most: int) -> NDArray[np.uint8]:
    """Return a dataset of bytes that lies wholly and plainly inside the file, of at most `most`."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise InvalidModelError(f"dataset {name!r} is missing, or a link to somewhere else")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise InvalidModelError(f"{name!r} is no dataset")
    properties = dataset.id.get_create_plist()
    plain = (
        properties.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
        and properties.get_external_count() == 0
        and properties.get_nfilters() == 0
    )
    if not plain or dataset.dtype != np.uint8 or dataset.ndim != 1:
        raise InvalidModelError(
            f"dataset {name!r} is filtered, chunked, virtual, external or of {dataset.dtype}; "
            "expected plain bytes"
        )
    if dataset.size > most or dataset.id.get_storage_size() != dataset.size or dataset.size > size:
        raise InvalidModelError(
            f"dataset {name!r} declares {dataset.size} bytes, "
            f"expected at most {min(most, size)}, all of them stored"
        )
    return dataset[()]
