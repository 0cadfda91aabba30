"""The few blocks of HDF5 that a model file consists of, read in Python.

HDF5's own library is written for files that are trusted: a crafted header can crash it or keep it
busy for ever. This parser knows a root group of hard links and attributes, and datasets of plain
bytes, and refuses everything else; h5py writes what it reads. Sections are those of the HDF5 File
Format Specification, version 3.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from .errors import InvalidModelError, located
from .lookup3 import checksum
from .storage import Storage

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_CHUNK = 2**13
"""Bytes of one block of metadata."""
MAX_CHUNKS = 8
"""Blocks of an object header: more of them, or a circle, are followed no further."""
NOWHERE = 2**64 - 1
"""The address of what is not there (section III, "undefined address")."""

UINT8 = bytes.fromhex("10 000000 01000000 0000 0800")
UINT32 = bytes.fromhex("10 000000 04000000 0000 2000")
"""Datatype messages of little-endian unsigned integers (IV.A.2.d)."""
_TYPES = {UINT8: 1, UINT32: 4}

_DATASPACE, _LINK_INFO, _DATATYPE, _FILL, _LINK = 0x01, 0x02, 0x03, 0x05, 0x06
_LAYOUT, _GROUP_INFO, _ATTRIBUTE, _CONTINUATION, _ATTRIBUTE_INFO = 0x08, 0x0A, 0x0C, 0x10, 0x15
_IGNORED = {0x00, _FILL, _GROUP_INFO}  # 0x00: space that is left free
_REFUSED = {
    _LINK_INFO: "is a group",
    0x07: "lies in another file",
    0x0B: "is filtered",
    0x0D: "has a comment",
    0x11: "is a group",
}


@dataclass(frozen=True)
class Attribute:
    """An attribute of the root group: its type, how many it holds (None: a scalar), its bytes."""

    type: bytes
    count: int | None
    data: bytes


@dataclass(frozen=True)
class Region:
    """Where the bytes of a dataset lie, wholly inside the file."""

    offset: int
    size: int


@dataclass(frozen=True)
class Root:
    """What the root group of a file holds; an object is read when it is asked for."""

    storage: Storage
    attributes: dict[str, Attribute] = field(default_factory=dict)
    links: dict[str, int] = field(default_factory=dict)

    def region(self, name: str) -> Region:
        """Return where a dataset lies that is one-dimensional, contiguous and of `uint8`."""
        if name not in self.links:
            raise InvalidModelError(f"dataset {name!r} is missing")
        with located(f"dataset {name!r}"):
            return _region(self.storage, self.links[name])


def read_root(storage: Storage) -> Root:
    """Read the root group of a file.

    Raises
    ------
    InvalidModelError
        The file is no HDF5 file, is damaged, or holds something that model files do not.
    """
    root = Root(storage)
    for kind, body in _messages(storage, _superblock(storage)):
        if kind == _LINK:
            name, address = _link(body)
            if name in root.links:
                raise InvalidModelError(f"two links are named {name[:80]!r}")
            root.links[name] = address
        elif kind == _ATTRIBUTE:
            name, attribute = _attribute(body)
            if name in root.attributes:
                raise InvalidModelError(f"two attributes are named {name[:80]!r}")
            root.attributes[name] = attribute
        else:
            _skip(kind, body, {_LINK_INFO, _ATTRIBUTE_INFO})
    return root


def _superblock(storage: Storage) -> int:
    """Return the address of the root group (II.A, version 3)."""
    block = _block(storage, 0, min(48, storage.size))
    if block[: len(SIGNATURE)] != SIGNATURE:
        raise InvalidModelError("no HDF5 file, as model files are; get the file again")
    if len(block) < 48:
        raise InvalidModelError(f"the file ends after {len(block)} bytes; get it again")
    version, offsets, lengths, flags = block[8:12]
    if (version, offsets, lengths) != (3, 8, 8):
        raise InvalidModelError(
            f"an HDF5 file, but no DeepChip model: superblock of version {version}, expected 3"
        )
    _check(block)
    base, extension, end, root = struct.unpack_from("<4Q", block, 12)
    if flags or base or extension != NOWHERE:
        raise InvalidModelError("an HDF5 file that is in use, or of another layout than a model's")
    if end != storage.size:
        raise InvalidModelError(
            f"the file has {storage.size} bytes, its header says {end}; get it again"
        )
    return int(root)


def _messages(storage: Storage, address: int) -> Iterator[tuple[int, bytes]]:
    """Yield kind and body of the messages of an object header (IV.A.1.b, version 2)."""
    start = _block(storage, address, 6)
    if start[:5] != b"OHDR\x02":
        raise InvalidModelError(f"no object header of version 2 at byte {address}")
    flags = start[5]
    before = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)  # times, phase changes
    width = 1 << (flags & 3)
    size = int.from_bytes(_block(storage, address + before, width), "little")
    before += width
    chunks = [(address, before + size + 4, before)]
    for number, (place, length, skipped) in enumerate(chunks, 1):
        if number > MAX_CHUNKS:
            raise InvalidModelError(f"an object header of more than {MAX_CHUNKS} blocks")
        block = _block(storage, place, length)
        if skipped == 4 and block[:4] != b"OCHK":
            raise InvalidModelError(f"no continuation of an object header at byte {place}")
        _check(block)
        for kind, body in _cut(block[skipped:-4], 6 if flags & 4 else 4):
            if kind == _CONTINUATION:
                place, length = _numbers(body, "<2Q")
                chunks.append((place, length, 4))
            else:
                yield kind, body


def _cut(block: bytes, before: int) -> Iterator[tuple[int, bytes]]:
    """Yield the messages of one block, of which each begins with `before` bytes."""
    start = 0
    while len(block) - start >= before:  # fewer are a gap
        kind, size, flags = struct.unpack_from("<BHB", block, start)
        start += before
        if size > len(block) - start:
            raise InvalidModelError("a message reaches beyond its object header")
        if flags & 2:
            raise InvalidModelError("a message lies elsewhere in the file (shared)")
        yield kind, block[start : start + size]
        start += size


def _link(body: bytes) -> tuple[str, int]:
    """Return name and address (IV.A.2.g)."""
    version, flags = _numbers(body, "<2B")
    before = 2
    kind = 0
    if flags & 0x08:
        (kind,) = _numbers(body, "<B", before)
        before += 1
    before += 8 if flags & 0x04 else 0  # the order of creation
    before += 1 if flags & 0x10 else 0  # the character set: names are ASCII or they are not ours
    width = 1 << (flags & 3)
    size = int.from_bytes(body[before : before + width], "little")
    before += width
    name = _name(body[before : before + size])
    if version != 1 or kind != 0:
        raise InvalidModelError(f"dataset {name!r} is a link to somewhere else")
    (address,) = _numbers(body, "<Q", before + size)
    return name, address


def _attribute(body: bytes) -> tuple[str, Attribute]:
    """Return name, type, count and bytes (IV.A.2.m, version 3)."""
    version, flags, *sizes = _numbers(body, "<2B3H")
    if version != 3 or flags:
        raise InvalidModelError(f"an attribute of version {version}, flags {flags}, expected 3, 0")
    parts = []
    before = 9
    for size in sizes:
        parts.append(body[before : before + size])
        before += size
    name = _name(parts[0].removesuffix(b"\0"))
    with located(f"attribute {name!r}"):
        if parts[1] not in _TYPES:
            raise InvalidModelError("is no unsigned integer of 8 or 32 bits")
        count = _count(parts[2])
        data = body[before:]
        if len(data) != _TYPES[parts[1]] * (1 if count is None else count):
            raise InvalidModelError(f"has {len(data)} bytes, another number than it declares")
    return name, Attribute(parts[1], count, data)


def _count(body: bytes) -> int | None:
    """Return the one dimension of a dataspace, None of a scalar (IV.A.2.b, version 2)."""
    version, rank, flags, kind = _numbers(body, "<4B")
    if version == 2 and (rank, flags, kind) == (0, 0, 0):
        return None
    if (version, rank, kind) != (2, 1, 1) or flags > 1:
        raise InvalidModelError("has another shape than one dimension; expected plain bytes")
    size, *most = _numbers(body, "<2Q" if flags else "<Q", 4)
    if most not in ([], [size]):
        raise InvalidModelError("can grow; expected plain bytes")
    return int(size)


def _region(storage: Storage, address: int) -> Region:
    found: dict[int, bytes] = {}
    for kind, body in _messages(storage, address):
        if kind in (_DATASPACE, _DATATYPE, _LAYOUT) and kind not in found:
            found[kind] = body
        else:
            _skip(kind, body, {_ATTRIBUTE_INFO})
    if set(found) != {_DATASPACE, _DATATYPE, _LAYOUT}:
        raise InvalidModelError("is no dataset")
    if found[_DATATYPE] != UINT8:
        raise InvalidModelError("holds another type than bytes; expected plain bytes")
    count = _count(found[_DATASPACE])
    version, kind = _numbers(found[_LAYOUT], "<2B")
    if version not in (3, 4) or kind != 1:
        raise InvalidModelError("is compact, chunked or virtual; expected plain bytes in one piece")
    offset, size = _numbers(found[_LAYOUT], "<2Q", 2)  # IV.A.2.i, contiguous
    if count is None:
        raise InvalidModelError("is a scalar; expected plain bytes")
    if size != count or offset > storage.size or size > storage.size - offset:
        raise InvalidModelError(
            f"declares {count} bytes and stores {size} from byte {offset} on, in a file of "
            f"{storage.size}; expected as many, inside the file"
        )
    return Region(offset, size)


def _skip(kind: int, body: bytes, tables: set[int]) -> None:
    """Go over what says nothing of the content; refuse any other message."""
    if kind in tables:
        # Version, flags, perhaps the greatest number given, then where a table of more lies.
        flags = body[1] if len(body) > 1 else 0
        before = 2 + ((8 if kind == _LINK_INFO else 2) if flags & 1 else 0)
        if _numbers(body, "<Q", before) == (NOWHERE,):
            return
        raise InvalidModelError("holds more links or attributes than a model file has")
    if kind not in _IGNORED:
        what = _REFUSED.get(kind, f"holds a header message of type {kind:#x}")
        raise InvalidModelError(f"{what}; expected plain bytes")


def _name(text: bytes) -> str:
    if not text.isascii():
        raise InvalidModelError(f"{text[:80]!r} is no name of a model file's objects")
    return text.decode()


def _numbers(body: bytes, layout: str, start: int = 0) -> tuple[int, ...]:
    if start + struct.calcsize(layout) > len(body):
        raise InvalidModelError("a message of an object header is too short")
    return struct.unpack_from(layout, body, start)


def _block(storage: Storage, start: int, size: int) -> bytes:
    if size > MAX_CHUNK or start > storage.size or size > storage.size - start:
        raise InvalidModelError(
            f"{size} bytes of metadata at byte {start}, expected at most {MAX_CHUNK} inside a file "
            f"of {storage.size}; get the file again"
        )
    return storage.read(start, size).tobytes()


def _check(block: bytes) -> None:
    """Compare a block with the checksum that it ends in."""
    if checksum(block[:-4]) != int.from_bytes(block[-4:], "little"):
        raise InvalidModelError("metadata do not match their checksum; get the file again")
