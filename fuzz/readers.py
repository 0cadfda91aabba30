"""Targets that read files: what is refused is refused by an error of ours, what is read can run.

Models have a mutator of their own, which changes the index as JSON and the streams, and then
makes the sizes and digests right: no other change would get past the first SHA-256.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from deepchip.converter.readers.caffe.deep_compression import read_deep_compression
from deepchip.converter.readers.caffe.network import read_network
from deepchip.formats import hdf5
from deepchip.formats import index as index_json
from deepchip.formats.check import check_graph
from deepchip.formats.errors import DeepChipError
from deepchip.formats.model_file import read_model
from deepchip.formats.storage import storage_of
from deepchip.runtime.arrays import load_arrays
from tests.attacks.mutation import mutated
from tests.attacks.targets import digest, ran_alike


def index(data: bytes) -> None:
    """The index of a model file, unpacked."""
    _refused_or(lambda: check_graph(index_json.from_json(data, lambda name, entries: {})))


def container(data: bytes) -> None:
    """The blocks of HDF5."""

    def read() -> None:
        root = hdf5.read_root(storage_of(data))
        for name in root.links:
            region = root.region(name)
            assert 0 <= region.offset <= region.offset + region.size <= len(data)

    _refused_or(read)


def model(data: bytes) -> None:
    """A whole model file, read and decoded."""
    _refused_or(lambda: digest(read_model(data)))


def running_model(data: bytes) -> None:
    """A whole model file that, if it is small enough, is run on both backends."""
    _refused_or(lambda: ran_alike(data))


def prototxt(data: bytes) -> None:
    """Caffe's description of a network."""
    text = data.decode("utf-8", "replace")
    _refused_or(lambda: read_network(text))


def deep_compression(data: bytes) -> None:
    """A description and a file of Deep Compression, one byte 0xff between them."""
    text, _, net = data.partition(b"\xff")

    def read(folder: Path) -> None:
        (folder / "a.prototxt").write_bytes(text)
        (folder / "a.net").write_bytes(net)
        read_deep_compression(folder / "a.net", folder / "a.prototxt")

    _in_a_folder(read)


def arrays(data: bytes) -> None:
    """A .npy or .npz file."""

    def read(folder: Path) -> None:
        (folder / "a").write_bytes(data)
        load_arrays(folder / "a")

    _in_a_folder(read)


def _in_a_folder(read: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _refused_or(lambda: read(Path(folder)))


def _refused_or(read: Callable[[], object]) -> None:
    try:
        read()
    except DeepChipError as error:
        assert str(error).isprintable(), repr(str(error))


def _mutate_model(data: bytes, most: int, seed: int) -> bytes:
    try:
        changed = mutated(data, Random(seed))
    except (DeepChipError, ValueError, TypeError, RecursionError, zlib.error):
        return data  # no model file
    return changed if len(changed) <= most else data


MUTATORS: Mapping[str, Callable[[bytes, int, int], bytes]] = {
    "model": _mutate_model,
    "running_model": _mutate_model,
}
