"""The blocks of HDF5, put together by hand from the File Format Specification, 3.0."""

from __future__ import annotations

import doctest
import io
import struct

import h5py
import numpy as np
import pytest

from deepchip.formats import lookup3
from deepchip.formats.errors import InvalidModelError
from deepchip.formats.hdf5 import MAX_CHUNKS, NOWHERE, UINT8, UINT32, Region, read_root
from deepchip.formats.lookup3 import checksum
from deepchip.formats.storage import storage_of

DATA = bytes(range(40, 60))
AT = 48  # where the data lie, behind the superblock
DATASET = 100
ROOT = 400
NONE = struct.pack("<Q", NOWHERE)


def checked(block: bytes) -> bytes:
    return block + struct.pack("<I", checksum(block))


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack("<BHB", kind, len(body), flags) + body


def header(*messages: bytes, flags: int = 2) -> bytes:
    """An object header of one block, IV.A.1.b; flags 2: its size has four bytes."""
    body = b"".join(messages)
    return checked(b"OHDR\x02" + bytes([flags]) + struct.pack("<I", len(body)) + body)


def superblock(end: int, root: int = ROOT, flags: int = 0, base: int = 0) -> bytes:
    numbers = struct.pack("<4Q", base, NOWHERE, end, root)
    return checked(b"\x89HDF\r\n\x1a\n" + bytes([3, 8, 8, flags]) + numbers)


def link(name: bytes = b"streams", address: int = DATASET) -> bytes:
    return message(0x06, bytes([1, 0, len(name)]) + name + struct.pack("<Q", address))


def dataspace(size: int = len(DATA)) -> bytes:
    return message(0x01, struct.pack("<4BQ", 2, 1, 0, 1, size))


def layout(at: int = AT, size: int = len(DATA), kind: int = 1) -> bytes:
    return message(0x08, struct.pack("<2B2Q", 4, kind, at, size))


def attribute(name: bytes = b"version\0", kind: bytes = UINT32, space: bytes = b"\2\0\0\0",
              data: bytes = b"\7\0\0\0", version: int = 3) -> bytes:  # fmt: skip
    sizes = struct.pack("<2B3HB", version, 0, len(name), len(kind), len(space), 0)
    return message(0x0C, sizes + name + kind + space + data)


TYPE = message(0x03, UINT8)
FILL = message(0x05, b"\3\x0a")
LINK_INFO = message(0x02, b"\0\0" + NONE + NONE)
ATTRIBUTE_INFO = message(0x15, b"\0\0" + NONE + NONE, 4)
PLAIN = header(dataspace(), TYPE, FILL, layout())
WHOLE = header(LINK_INFO, message(0x0A, b"\0\0"), link(), ATTRIBUTE_INFO, attribute())


def file(root: bytes = WHOLE, dataset: bytes = PLAIN, start: bytes = b"") -> bytes:
    behind = ((AT, DATA), (DATASET, dataset), (ROOT, root))
    data = bytearray(1500)
    for at, part in behind:
        data[at : at + len(part)] = part
    data[: len(superblock(0))] = start or superblock(len(data))
    return bytes(data)


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidModelError) as caught:
        read_root(storage_of(data)).region("streams")
    return str(caught.value)


def test_jenkins_example():
    """From the comments of lookup3.c."""
    assert doctest.testmod(lookup3).attempted == 1
    assert doctest.testmod(lookup3).failed == 0


@pytest.mark.parametrize("size", [0, 1, 11, 12, 13, 24, 25])
def test_checksums_that_hdf5_wrote(size):
    """Of an attribute of each size, whose block ends anywhere among three words."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v110", "v110")) as written:
        written.attrs["a"] = np.arange(1 + size, dtype=np.uint8)
    root = read_root(storage_of(buffer.getvalue()))
    assert root.attributes["a"].data == bytes(range(1 + size))


def test_what_is_put_together_here_is_what_hdf5_reads():
    with h5py.File(io.BytesIO(file())) as found:
        assert found["streams"][()].tobytes() == DATA
        assert found.attrs["version"] == 7
    root = read_root(storage_of(file()))
    assert root.region("streams") == Region(AT, len(DATA))
    assert root.attributes["version"].data == b"\7\0\0\0"


def test_headers_in_several_blocks():
    more = checked(b"OCHK" + link())
    at = ROOT + 300
    root = header(LINK_INFO, message(0x10, struct.pack("<2Q", at, len(more))))
    data = bytearray(file(root))
    data[at : at + len(more)] = more
    assert read_root(storage_of(bytes(data))).region("streams") == Region(AT, len(DATA))
    with h5py.File(io.BytesIO(bytes(data))) as found:
        assert found["streams"][()].tobytes() == DATA


def test_headers_that_go_round_in_circles():
    """A block that continues in itself; HDF5's library has looped on such files."""
    at = ROOT + 300
    again = message(0x10, struct.pack("<2Q", at, 4 + 4 + 16 + 4))
    data = bytearray(file(header(LINK_INFO, again)))
    block = checked(b"OCHK" + again)
    data[at : at + len(block)] = block
    assert refusal(bytes(data)) == f"an object header of more than {MAX_CHUNKS} blocks"


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        (header(dataspace(), TYPE, layout(at=1500 - 19)), "stores 20 from byte 1481 on"),
        (header(dataspace(), TYPE, layout(at=2**62)), "expected as many, inside the file"),
        (header(dataspace(), TYPE, layout(at=2**64 - 10)), "expected as many, inside the file"),
        (header(dataspace(), TYPE, layout(at=NOWHERE)), "expected as many, inside the file"),
        (header(dataspace(2**40), TYPE, layout()), f"declares {2**40} bytes and stores 20"),
        (header(dataspace(2**40), TYPE, layout(size=2**40)), f"and stores {2**40}"),
        (header(dataspace(), TYPE, layout(kind=0)), "compact, chunked or virtual"),
        (header(dataspace(), TYPE, layout(kind=2)), "compact, chunked or virtual"),
        (header(dataspace(), TYPE, layout(kind=3)), "compact, chunked or virtual"),
        (header(dataspace(), TYPE, message(0x08, b"\4\1")), "too short"),
        (header(dataspace(), message(0x03, UINT32), layout()), "another type than bytes"),
        (header(dataspace(), message(0x03, UINT8, 2), layout()), "elsewhere in the file (shared)"),
        (header(dataspace(), TYPE, TYPE, layout()), "a header message of type 0x3"),
        (header(dataspace(), TYPE), "is no dataset"),
        (header(dataspace(), TYPE, layout(), message(0x07, bytes(30))), "lies in another file"),
        (header(dataspace(), TYPE, layout(), message(0x0B, bytes(30))), "is filtered"),
        (header(LINK_INFO), "is a group"),
        (header(message(0x01, b"\2\2\0\1" + bytes(16)), TYPE, layout()), "another shape"),
        (header(message(0x01, b"\1\1\0\1" + bytes(16)), TYPE, layout()), "another shape"),
        (header(message(0x01, struct.pack("<4B2Q", 2, 1, 1, 1, 20, NOWHERE)), TYPE, layout()),
         "can grow"),
        (header(dataspace(), TYPE, layout())[:-1] + b"\0", "do not match their checksum"),
        (b"OHDR\1" + PLAIN[5:], "no object header of version 2"),
        (checked(b"OHDR\2\2" + struct.pack("<I", 2**31)), "bytes of metadata at byte 100"),
        (checked(b"OHDR\2\2" + struct.pack("<I", 8) + b"\3\xff\0\0\0\0\0\0"), "reaches beyond"),
    ],
)  # fmt: skip
def test_datasets(dataset, text):
    found = refusal(file(dataset=dataset))
    assert text in found
    assert found.startswith("dataset 'streams': ")


@pytest.mark.parametrize(
    ("root", "text"),
    [
        (header(LINK_INFO), "dataset 'streams' is missing"),
        (header(link(), link()), "two links are named 'streams'"),
        (header(link(), attribute(), attribute()), "two attributes are named 'version'"),
        (header(message(0x06, b"\1\x08\1\7streams\4\0else")), "a link to somewhere else"),
        (header(message(0x06, b"\1\x08\x40\7streams\4\0else")), "a link to somewhere else"),
        (header(message(0x06, b"\1\0\7streams\0\0")), "too short"),
        (header(link(name=b"stre\xe4ms")), "is no name of a model file's objects"),
        (header(link(address=2**63)), "6 bytes of metadata at byte"),
        (header(message(0x02, b"\0\0" + struct.pack("<2Q", 48, 48))), "holds more links"),
        (header(message(0x15, b"\0\1\0\0" + struct.pack("<2Q", 48, 48))), "holds more links"),
        (header(message(0x11, bytes(16))), "is a group; expected plain bytes"),
        (header(link(), attribute(version=1)), "an attribute of version 1"),
        (header(link(), attribute(data=b"\7\0\0")), "has 3 bytes, another number"),
        (header(link(), attribute(space=struct.pack("<4BQ", 2, 1, 0, 1, 2**62))), "has 4 bytes"),
        (header(link(), attribute(kind=b"\x19" + UINT32[1:])), "is no unsigned integer"),
    ],
)
def test_root_groups(root, text):
    assert text in refusal(file(root))


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (superblock(1499), "the file has 1500 bytes, its header says 1499"),
        (superblock(1500, flags=1), "in use"),
        (superblock(1500, base=512), "of another layout"),
        (superblock(1500)[:-1] + b"\0", "do not match their checksum"),
        (superblock(1500, root=1496), "6 bytes of metadata at byte 1496"),
        (superblock(1500, root=AT), "no object header of version 2 at byte 48"),
        (superblock(1500)[:8] + b"\2" + superblock(1500)[9:], "superblock of version 2"),
    ],
)
def test_superblocks(start, text):
    assert text in refusal(file(start=start))


def test_every_flipped_bit_of_a_header_is_an_error_or_changes_nothing():
    whole = bytearray(file())
    for bit in range(8 * len(whole)):
        whole[bit // 8] ^= 1 << bit % 8
        try:
            root = read_root(storage_of(bytes(whole)))
            found = root.region("streams"), root.attributes["version"].data
        except InvalidModelError:
            pass
        else:
            assert found == (Region(AT, len(DATA)), b"\7\0\0\0")
        whole[bit // 8] ^= 1 << bit % 8
