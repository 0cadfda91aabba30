"""The model file: a graph and the streams of its weights, as SPEC.md describes it.

The reader trusts nothing, and believes no size before it has compared it with the file's.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepchip._version import __version__

from . import index as index_json
from .check import MAX_NAME, check_graph
from .container import MAX_INDEX, Container, container_bytes, read_container
from .encodings import Allowance, decode, encode
from .errors import DeepChipError, InputError, InvalidModelError, located
from .files import replacing
from .graph import Graph, LevelWeights, Tensor
from .index import Entries, StreamEntry
from .keys import Key, check_signature, sign
from .storage import Bytes, Stream, storage_of
from .storage import Source as Source

VERIFIED_ROWS = 64
"""Rows that are decoded at a time to verify them."""
WORTH_COMPILING = 2**20
"""Bytes of a file from which on compiled decoders are quicker, counting the time to load them."""


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
    data = model_bytes(graph, encoding)

    def check(written: Path) -> None:
        read_model(written)
        if written.read_bytes() != data:
            text = "the disk gives back other bytes than were written"
            raise OSError(errno.EIO, text, os.fspath(target))

    with replacing(target, check) as file:
        file.write(data)


def model_bytes(graph: Graph, encoding: str = "auto") -> bytes:
    """Return the model file of `graph`; arguments and errors as of `write_model`."""
    check_graph(graph)
    tensors: list[Entries] = []
    parts: list[NDArray[np.uint8]] = []
    allowance = Allowance()
    for node in graph.nodes:
        entries: Entries = {}
        for name, tensor in node.tensors.items():
            with located(f"layer {node.name!r}"):
                encoded = encode(tensor, encoding)
            listed = [
                StreamEntry(stream, len(data), _sha256(data))
                for stream, data in encoded.streams.items()
            ]
            entries[name] = encoded.description, listed
            parts.extend(encoded.streams.values())
        with located(f"layer {node.name!r}"):
            _spend(allowance, entries)
        tensors.append(entries)
    text = index_json.to_json(graph, f"deepchip {__version__}", tensors)
    return container_bytes(zlib.compress(text, 9), parts)


def read_model(
    source: Source, *, compiled: bool = False, verify: bool = True, key: Key | None = None
) -> Graph:
    """Return the graph of a model file; weights of levels are read when they are asked for.

    Until the graph and its weights are let go, a path stays open, or the bytes are held. What is
    wrong with the codes of a layer is raised when they are decoded.

    Parameters
    ----------
    source : path, the file's bytes, or a binary file object, which is read from its beginning
    compiled : whether codes are later decoded by compiled decoders
    verify : whether each stream is compared with its SHA-256 when it is read; every bound is
        checked without it too
    key : public Ed25519 key in PEM that the file has to be signed with: a path, or the bytes

    Raises
    ------
    InvalidModelError
        The file is damaged: the text names the layer and what is wrong with it.
    SignatureError
        It is not signed with the `key`; nothing of the index was looked at.
    InputError
        `key` is none, or digests, which a signature is of, are not to be compared.
    UnsupportedError
        It is of a version that this release does not read, or `cryptography` is missing.
    OSError
        It, or the key, cannot be read.
    """
    if key is not None and not verify:
        raise InputError("a key is demanded, but digests are not to be compared")
    container = _opened(source, key)

    def take(layer: str, entries: Entries, start: int) -> Mapping[str, Tensor]:
        with located(f"layer {layer!r}"):
            return _tensors(_Layer(container, entries, start, verify), compiled)

    graph = _read(container, take)
    check_graph(graph)
    return graph


def _opened(source: Source, key: Key | None) -> Container:
    container = read_container(storage_of(source))
    if key is not None:
        check_signature(container.signed, container.signature, key)
    return container


def sign_model(path: str | os.PathLike[str], key: Key) -> None:
    """Sign a model file in place, after all of it was verified.

    Parameters
    ----------
    key : private Ed25519 key in PEM: a path, or the bytes

    Raises
    ------
    InvalidModelError
        The file is damaged; it stays as it is.
    InputError
        `key` is no such key.
    UnsupportedError
        The package `cryptography` is missing.
    OSError
        The file or the key cannot be read, or the file cannot be written.
    """
    data = Path(path).read_bytes()
    with located(Path(path).name):
        container = read_container(storage_of(data))
        _, faults = verify_model(data)
        if faults:
            raise InvalidModelError(f"{faults[0]}; it is not signed")
        signature = sign(container.signed, key)
    streams = container.read(0, container.streams)
    with replacing(path) as file:
        file.write(container_bytes(container.index, [streams], signature))


def verify_model(source: Source, key: Key | None = None) -> tuple[Graph | None, list[str]]:
    """Compare every stream of a model file with its digest, and decode it.

    Parameters
    ----------
    key : public key that the file has to be signed with, see `read_model`

    Returns
    -------
    The graph, or None if there are faults; and a line for each fault.
    """
    faults: list[str] = []
    graph = None
    try:
        container = _opened(source, key)
        found = importlib.util.find_spec("numba") is not None
        compiled = found and container.streams >= WORTH_COMPILING

        def take(layer: str, entries: Entries, start: int) -> Mapping[str, Tensor]:
            checked = _Layer(container, entries, start, verify=True)
            found = [f"layer {layer!r}: {fault}" for fault in _faults(checked, compiled)]
            faults.extend(found)
            return {} if found else _tensors(checked, compiled)

        graph = _read(container, take)
        if not faults:
            check_graph(graph)
    except DeepChipError as error:
        faults.append(str(error))
    return (None if faults else graph), faults


Take = Callable[[str, Entries, int], Mapping[str, Tensor]]
"""Gives the tensors of a layer, of a name, whose streams begin at a byte of all streams."""


def _read(container: Container, take: Take) -> Graph:
    start = 0
    allowance = Allowance()

    def resolve(name: str, entries: Entries) -> Mapping[str, Tensor]:
        nonlocal start
        first = start
        start += sum(entry.size for _, streams in entries.values() for entry in streams)
        if start > container.streams:
            raise InvalidModelError(
                f"layer {name[:MAX_NAME]!r}: its streams end at byte {start} of the streams, "
                f"the file holds {container.streams}"
            )
        with located(f"layer {name[:MAX_NAME]!r}"):
            _spend(allowance, entries)
        return take(name[:MAX_NAME], entries, first)

    graph = index_json.from_json(_unpacked(container.index), resolve)
    if start != container.streams:
        raise InvalidModelError(
            f"{container.streams} bytes of streams are stored, the index says {start}"
        )
    return graph


def _spend(allowance: Allowance, entries: Entries) -> None:
    for name, (description, streams) in entries.items():
        with located(name):
            allowance.spend(description, sum(entry.size for entry in streams))


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


class _Layer:
    """The streams of a layer, by tensor and name.

    Parameters
    ----------
    start : where they begin among all streams
    verify : whether they are compared with their digests
    """

    def __init__(self, container: Container, entries: Entries, start: int, verify: bool) -> None:
        self.descriptions = {name: description for name, (description, _) in entries.items()}
        self.streams: dict[str, dict[str, Stream]] = {}
        for name, (_, listed) in entries.items():
            self.streams[name] = {}
            for entry in listed:
                read = _reader(container, entry, start, verify)
                self.streams[name][entry.name] = Stream(entry.size, read)
                start += entry.size


def _reader(
    container: Container, entry: StreamEntry, start: int, verify: bool
) -> Callable[[], Bytes]:
    def read() -> Bytes:
        data = container.read(start, entry.size)
        if verify and _sha256(data) != entry.sha256:
            raise InvalidModelError(
                f"stream {entry.name[:80]!r} does not match its SHA-256; get the file again"
            )
        return data

    return read


def _tensors(layer: _Layer, compiled: bool) -> Mapping[str, Tensor]:
    """Return a layer's tensors; codes of levels are left for later."""
    tensors = {}
    for name, description in layer.descriptions.items():
        with located(name):
            tensors[name] = decode(description, layer.streams[name], compiled=compiled)
    return tensors


def _faults(layer: _Layer, compiled: bool) -> list[str]:
    """Return every fault of a layer: of each stream, or else of what they stand for."""
    faults: list[str] = []
    for name, description in layer.descriptions.items():
        streams = layer.streams[name]
        before = len(faults)
        for stream in streams.values():
            with _noted(faults, name):
                stream.read()
        if len(faults) == before:
            with _noted(faults, name):
                tensor = decode(description, streams, compiled=compiled)
                if isinstance(tensor, LevelWeights):
                    for _ in tensor.rows(VERIFIED_ROWS):
                        pass
    return faults


@contextmanager
def _noted(faults: list[str], place: str) -> Iterator[None]:
    """Note an error among `faults`, and go on."""
    try:
        with located(place):
            yield
    except DeepChipError as error:
        faults.append(str(error))
