"""Model files in parts that can be changed, and put together again with right sizes and digests."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepchip.formats.container import container_bytes, read_container
from deepchip.formats.storage import storage_of

Json = Any


@dataclass
class Parts:
    """A model file taken apart: its index, and the bytes of each stream in the index's order."""

    index: Json
    streams: list[bytes]

    @classmethod
    def of(cls, data: bytes) -> Parts:
        """Take a right model file apart."""
        container = read_container(storage_of(data))
        parts = cls(json.loads(zlib.decompress(container.index)), [])
        stored = container.read(0, container.streams).tobytes()
        for entry in parts.entries():
            parts.streams.append(stored[: entry[1]])
            stored = stored[entry[1] :]
        return parts

    def copy(self) -> Parts:
        """Return a copy to change."""
        return Parts(json.loads(json.dumps(self.index)), list(self.streams))

    def entries(self) -> Iterator[list[Any]]:
        """Yield what the index has of each stream, [name, bytes, SHA-256], where it has that."""
        for node in _items(self.index, "nodes"):
            for tensor in _items(node, "tensors"):
                for entry in _items(tensor, "streams"):
                    if isinstance(entry, list) and len(entry) == 3:
                        yield entry

    def node(self, name: str) -> Json:
        """Return a node of the index."""
        return next(node for node in self.index["nodes"] if node["name"] == name)

    def agree(self) -> None:
        """Give every stream that the index names its size and digest."""
        for entry, stream in zip(self.entries(), self.streams, strict=False):
            entry[1:] = [len(stream), hashlib.sha256(stream).hexdigest()]

    def data(self) -> bytes:
        """Return the model file that they make, whatever they say."""
        return forged(json.dumps(self.index).encode(), b"".join(self.streams))


def forged(index: bytes, streams: bytes = b"") -> bytes:
    """Return a model file of an index in JSON and all streams, its digest right."""
    parts = [np.frombuffer(streams, np.uint8)] if streams else []
    return container_bytes(zlib.compress(index, 9), parts)


def changed(data: bytes, change: Callable[[Parts], None]) -> bytes:
    """Return a model file after `change`, with all sizes and digests right again."""
    parts = Parts.of(data)
    change(parts)
    parts.agree()
    return parts.data()


def _items(holder: Json, key: str) -> list[Json]:
    found = holder.get(key) if isinstance(holder, dict) else None
    if isinstance(found, dict):
        return list(found.values())
    return found if isinstance(found, list) else []
