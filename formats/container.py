"""What of a model file is HDF5: an index, the bytes of all streams, and what vouches for them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidModelError, UnsupportedError
from .hdf5 import UINT8, UINT32, Region, Root, read_root
from .storage import Bytes, Storage

FORMAT = b"deepchip"
VERSION = 1
MAX_INDEX = 2**21
"""Bytes of an index, as it is stored and unpacked."""

_ATTRIBUTES: Mapping[str, tuple[bytes, int | None]] = {
    "format": (UINT8, 8),
    "version": (UINT32, None),
    "index_sha256": (UINT8, 32),
    "signature": (UINT8, 64),
}
"""Type and number of each; only the signature may be missing."""


@dataclass(frozen=True)
class Container:
    """A model file that was opened.

    Attributes
    ----------
    index : the index as it is stored; it matches its digest
    region : where the streams lie
    digest : SHA-256 of the index
    signature : of `signed`, or None; nobody has looked at it yet
    """

    storage: Storage
    index: bytes
    region: Region
    digest: bytes
    signature: bytes | None

    @property
    def streams(self) -> int:
        """How many bytes all streams have."""
        return self.region.size

    @property
    def signed(self) -> bytes:
        """What a signature is of: format, version and digest."""
        return FORMAT + VERSION.to_bytes(4, "little") + self.digest

    def read(self, start: int, count: int) -> Bytes:
        """Return `count` bytes of the streams from `start` on, which are there."""
        return self.storage.read(self.region.offset + start, count)


def read_container(storage: Storage) -> Container:
    """Open a model file, and compare its index with its digest.

    Raises
    ------
    InvalidModelError
        It is damaged, or holds anything that SPEC.md does not name.
    UnsupportedError
        It is of a version that this release does not read.
    """
    root = read_root(storage)
    if "format" not in root.attributes or _attribute(root, "format") != FORMAT:
        raise InvalidModelError("an HDF5 file, but no DeepChip model")
    version = int.from_bytes(_attribute(root, "version"), "little")
    if version != VERSION:
        raise UnsupportedError(
            f"format version {version}; this release reads {VERSION}. "
            "Upgrade deepchip, or convert again"
        )
    digest = _attribute(root, "index_sha256")
    signature = _attribute(root, "signature") if "signature" in root.attributes else None
    others = {*root.attributes, *root.links} - {*_ATTRIBUTES, "index", "streams"}
    if others:
        raise InvalidModelError(f"holds {sorted(others)[0][:80]!r}, which no model file has")
    place = root.region("index")
    if place.size > MAX_INDEX:
        raise InvalidModelError(f"an index of {place.size} bytes, at most {MAX_INDEX}")
    index = storage.read(place.offset, place.size).tobytes()
    if hashlib.sha256(index).digest() != digest:
        raise InvalidModelError("the index does not match its SHA-256; get the file again")
    region = root.region("streams") if "streams" in root.links else Region(0, 0)
    return Container(storage, index, region, digest, signature)


def _attribute(root: Root, name: str) -> bytes:
    if name not in root.attributes:
        raise InvalidModelError(f"attribute {name!r} is missing")
    found, (kind, count) = root.attributes[name], _ATTRIBUTES[name]
    if (found.type, found.count) != (kind, count):
        expected = "one uint32" if count is None else f"{count} bytes"
        raise InvalidModelError(f"attribute {name!r} has another type or size, expected {expected}")
    return found.data


def container_bytes(
    index: bytes, streams: Sequence[NDArray[np.uint8]], signature: bytes | None = None
) -> bytes:
    """Return the model file of an index as it is stored, and of streams in their order."""
    import h5py  # not needed to run a model

    buffer = io.BytesIO()
    # Checksummed metadata and small headers, yet readable by HDF5 1.10.
    with h5py.File(buffer, "w", libver=("v110", "v110")) as file:
        total = sum(map(len, streams))
        if total:
            dataset = file.create_dataset("streams", (total,), np.uint8)
            start = 0
            for stream in streams:
                dataset[start : start + len(stream)] = stream
                start += len(stream)
        file.create_dataset("index", data=_bytes(index))
        file.attrs["format"] = _bytes(FORMAT)
        file.attrs["version"] = np.uint32(VERSION)
        file.attrs["index_sha256"] = _bytes(hashlib.sha256(index).digest())
        if signature is not None:
            file.attrs["signature"] = _bytes(signature)
    return buffer.getvalue()


def _bytes(data: bytes) -> NDArray[Any]:
    return np.frombuffer(data, np.uint8)
