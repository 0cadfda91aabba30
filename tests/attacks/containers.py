"""Model files whose HDF5 asks for other files, filters or more than there is; the rest is right."""

from __future__ import annotations

import atexit
import hashlib
import io
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import h5py
import numpy as np

from deepchip.formats.model_file import model_bytes
from tests.formats.networks import small

from .forge import Parts
from .table import Make, Table

CONTAINERS = Table()
UNKNOWN_FILTER = 32_999


@cache
def secret() -> Path:
    """Return a file beside which there is nothing; it holds what a model's streams would."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "secret.h5"
    with h5py.File(path, "w") as file:
        file["streams"] = np.frombuffer(b"".join(_parts().streams), np.uint8)
    return path


@cache
def _parts() -> Parts:
    return Parts.of(model_bytes(small()))


def file_of(
    make_streams: Callable[[h5py.File, np.ndarray], None], libver: str = "v110", userblock: int = 0
) -> bytes:
    """Return the model file whose streams a function makes, given a file and the right bytes."""
    index = zlib.compress(json.dumps(_parts().index).encode())
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=(libver, "v110"), userblock_size=userblock) as file:
        file["index"] = np.frombuffer(index, np.uint8)
        make_streams(file, np.frombuffer(b"".join(_parts().streams), np.uint8))
        file.attrs["format"] = np.frombuffer(b"deepchip", np.uint8)
        file.attrs["version"] = np.uint32(1)
        file.attrs["index_sha256"] = np.frombuffer(hashlib.sha256(index).digest(), np.uint8)
    return buffer.getvalue()


def _hostile(text: str) -> Callable[[Callable[[h5py.File, np.ndarray], None]], Make]:
    """Add a file whose streams a function makes."""

    def add(make_streams: Callable[[h5py.File, np.ndarray], None]) -> Make:
        def make() -> bytes:
            return file_of(make_streams)

        make.__name__ = make_streams.__name__
        return CONTAINERS.refused(text)(make)

    return add


@_hostile("lies in another file")
def bytes_of_another_file(file: h5py.File, data: np.ndarray) -> None:
    external = [(str(secret()), 2048, data.size)]
    file.create_dataset("streams", data.shape, "u1", external=external)


@_hostile("is a link to somewhere else")
def a_dataset_of_another_file(file: h5py.File, data: np.ndarray) -> None:
    file["streams"] = h5py.ExternalLink(str(secret()), "streams")


@_hostile("is a link to somewhere else")
def a_soft_link(file: h5py.File, data: np.ndarray) -> None:
    file["index2"] = data
    file["streams"] = h5py.SoftLink("/index2")


@_hostile("compact, chunked or virtual")
def a_virtual_dataset(file: h5py.File, data: np.ndarray) -> None:
    layout = h5py.VirtualLayout(data.shape, np.uint8)
    layout[:] = h5py.VirtualSource(str(secret()), "streams", data.shape)
    file.create_virtual_dataset("streams", layout)


@_hostile("expected plain bytes")
def a_filter_that_nobody_knows(file: h5py.File, data: np.ndarray) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(data.shape)
    properties.set_filter(UNKNOWN_FILTER, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    space = h5py.h5s.create_simple(data.shape)
    h5py.h5d.create(file.id, b"streams", h5py.h5t.STD_U8LE, space, properties)


@_hostile("expected plain bytes")
def fifty_megabytes_in_gzip(file: h5py.File, data: np.ndarray) -> None:
    file.create_dataset("streams", data=np.zeros(50 * 10**6, np.uint8), compression="gzip")


@_hostile("declares 1099511627776 bytes")
def a_terabyte_that_was_never_written(file: h5py.File, data: np.ndarray) -> None:
    file.create_dataset("streams", (2**40,), "u1")


@_hostile("is a group")
def a_group(file: h5py.File, data: np.ndarray) -> None:
    file.create_group("streams")


@_hostile("which no model file has")
def one_dataset_more(file: h5py.File, data: np.ndarray) -> None:
    file["streams"] = data
    file["more"] = data


@_hostile("more links or attributes than a model file has")
def ten_thousand_datasets(file: h5py.File, data: np.ndarray) -> None:
    file["streams"] = data
    for number in range(10_000):
        file[f"{number}"] = h5py.SoftLink("/streams")


@_hostile("which no model file has")
def one_attribute_more(file: h5py.File, data: np.ndarray) -> None:
    file["streams"] = data
    file.attrs["more"] = np.uint32(1)


@_hostile("holds another type than bytes")
def numbers_of_two_bytes(file: h5py.File, data: np.ndarray) -> None:
    file["streams"] = data.astype("<u2")


@_hostile("has another shape than one dimension")
def a_table(file: h5py.File, data: np.ndarray) -> None:
    file["streams"] = data[:, None]


@_hostile("which no model file has")
def no_streams_under_this_name(file: h5py.File, data: np.ndarray) -> None:
    file["streams"] = data
    file.move("index", "Index")


@CONTAINERS.refused("no DeepChip model: superblock of version 0")
def the_oldest_layout() -> bytes:
    """Its blocks have no checksums, so that a flipped bit would be believed."""
    return file_of(lambda file, data: file.__setitem__("streams", data), "earliest")


@CONTAINERS.refused("no HDF5 file")
def another_file_before_it() -> bytes:
    return file_of(lambda file, data: file.__setitem__("streams", data), userblock=512)
