"""Hostile model files: each is what `small()` writes with one thing wrong, all digests right."""

from __future__ import annotations

import hashlib
import io
import json
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest

from deepchip.formats.errors import InvalidModelError
from deepchip.formats.model_file import model_bytes, read_model, verify_model
from tests.formats.networks import check_same_graph, put_together, small, taken_apart

WHOLE = model_bytes(small())
INDEX, DATASETS = taken_apart(WHOLE)
STREAMS = DATASETS["1"]
STORED = zlib.compress(json.dumps(INDEX).encode())
TEBIBYTE = 2**40


def copy_of_index():
    return json.loads(json.dumps(INDEX))


def refusal(data: bytes) -> str:
    """The one line that refuses a file; verifying says the same."""
    with pytest.raises(InvalidModelError) as caught:
        read_model(data)
    text = str(caught.value)
    assert verify_model(data) == (None, text.splitlines())
    return text


def with_dataset(name, make):
    """The model file whose dataset `name` is made by `make(file, name, its right bytes)`."""
    right = {"index": STORED, "1": STREAMS}[name]

    def add(file):
        if name in file:
            del file[name]
        make(file, name, np.frombuffer(right, np.uint8))

    return put_together(STORED, DATASETS, add)


def compact(file, name, data):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(data.shape)
    made = h5py.h5d.create(file.id, name.encode(), h5py.h5t.STD_U8LE, space, properties)
    h5py.Dataset(made)[...] = data


def test_what_the_attacks_are_made_of_is_whole():
    check_same_graph(read_model(put_together(INDEX, DATASETS)), small())


@pytest.mark.parametrize("name", ["index", "1"])
def test_compact_datasets_are_read(name):
    check_same_graph(read_model(with_dataset(name, compact)), small())


@pytest.mark.parametrize("name", ["index", "1"])
class TestDatasets:
    """Each kind of dataset that is not plain bytes in this file, though it gives the right ones."""

    def test_external_storage(self, name, tmp_path):
        other = tmp_path / "other"

        def make(file, name, data):
            other.write_bytes(data.tobytes())
            file.create_dataset(name, data.shape, "u1", external=[(str(other), 0, data.size)])

        assert "expected plain bytes" in refusal(with_dataset(name, make))

    def test_soft_link(self, name):
        def make(file, name, data):
            file["elsewhere"] = data
            file[name] = h5py.SoftLink("/elsewhere")

        assert "a link to somewhere else" in refusal(with_dataset(name, make))

    def test_external_link(self, name, tmp_path):
        def make(file, name, data):
            with h5py.File(tmp_path / "other.h5", "w") as other:
                other["data"] = data
            file[name] = h5py.ExternalLink(str(tmp_path / "other.h5"), "data")

        assert "a link to somewhere else" in refusal(with_dataset(name, make))

    def test_virtual(self, name, tmp_path):
        def make(file, name, data):
            with h5py.File(tmp_path / "other.h5", "w") as other:
                other["data"] = data
            layout = h5py.VirtualLayout(data.shape, np.uint8)
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "data", data.shape)
            file.create_virtual_dataset(name, layout)

        assert "expected plain bytes" in refusal(with_dataset(name, make))

    @pytest.mark.parametrize(
        "options",
        [
            {"chunks": (5,)},
            {"compression": "gzip"},
            {"shuffle": True},
            {"fletcher32": True},
            {"scaleoffset": 0},
            {"maxshape": (None,)},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_chunked_and_filtered(self, name, options):
        def make(file, name, data):
            file.create_dataset(name, data=data, **options)

        assert "expected plain bytes" in refusal(with_dataset(name, make))

    @pytest.mark.parametrize("dtype", ["i1", "u2", "f4", "S1", h5py.string_dtype()])
    def test_other_types(self, name, dtype):
        def make(file, name, data):
            file.create_dataset(name, (4,), dtype)

        assert "expected plain bytes" in refusal(with_dataset(name, make))

    @pytest.mark.parametrize("shape", [(), (1, 4), (4, 1)])
    def test_other_shapes(self, name, shape):
        def make(file, name, data):
            file.create_dataset(name, shape, "u1")

        assert "expected plain bytes" in refusal(with_dataset(name, make))

    def test_no_shape(self, name):
        def make(file, name, data):
            file[name] = h5py.Empty("u1")

        assert "expected plain bytes" in refusal(with_dataset(name, make))

    def test_a_group(self, name):
        assert "is no dataset" in refusal(with_dataset(name, lambda f, n, data: f.create_group(n)))

    def test_a_type(self, name):
        def make(file, name, data):
            file[name] = np.dtype("u1")

        assert "is no dataset" in refusal(with_dataset(name, make))

    def test_missing(self, name):
        assert f"dataset '{name}' is missing" in refusal(with_dataset(name, lambda *_: None))

    def test_terabytes_are_not_believed(self, name):
        """Declared, but never written: HDF5 would read a terabyte of zeros."""

        def make(file, name, data):
            file.create_dataset(name, (TEBIBYTE,), "u1")

        data = with_dataset(name, make)
        tracemalloc.start()
        assert f"declares {TEBIBYTE} bytes" in refusal(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**20


@pytest.mark.parametrize("place", [0, 1, -1, 2**62, 2**63, 2**64 - 2])
@pytest.mark.parametrize("name", ["index", "1"])
def test_data_that_lie_elsewhere(name, place):
    """Written in the oldest layout, whose headers have no checksums; -1: one byte too far back."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="earliest") as file:
        for key, data in {"index": STORED, **DATASETS}.items():
            file[key] = np.frombuffer(data, np.uint8)
        with h5py.File(io.BytesIO(WHOLE)) as whole:
            for key, value in whole.attrs.items():
                file.attrs[key] = value
        file.attrs["index_sha256"] = np.frombuffer(hashlib.sha256(STORED).digest(), np.uint8)
        file.flush()
        offset, size = file[name].id.get_offset(), file[name].size
    right = buffer.getvalue()
    check_same_graph(read_model(right), small())
    wrong = len(right) - size + 1 if place == -1 else place
    address, moved = (number.to_bytes(8, "little") for number in (offset, wrong))
    assert right.count(address) == 1
    verified, faults = verify_model(right.replace(address, moved))
    assert verified is None
    assert len(faults) == 1


def changed(change) -> bytes:
    """The model file after `change(index, node of the layer)`."""
    index = copy_of_index()
    change(index, index["nodes"][1])
    return put_together(index, DATASETS)


def test_terabytes_that_the_index_lists_as_well_are_not_believed():
    index = copy_of_index()
    index["nodes"][1]["tensors"]["bias"]["streams"][0][1] = TEBIBYTE - len(STREAMS) + 8

    def add(file):
        del file["1"]
        file.create_dataset("1", (TEBIBYTE,), "u1")

    assert "all of them stored" in refusal(put_together(index, DATASETS, add))


@pytest.mark.parametrize("size", [0, 7, 9, 2**62, 10**40])
def test_sizes_that_the_index_lists_are_compared_with_the_file(size):
    def change(index, layer):
        layer["tensors"]["bias"]["streams"][0][1] = size

    assert refusal(changed(change)).startswith("layer 'fc': ")


def test_an_index_that_does_not_match_its_digest():
    def add(file):
        file["index"][0] ^= 1

    data = put_together(STORED, DATASETS, add)
    assert "the index does not match its SHA-256; get the file again" in refusal(data)


@pytest.mark.parametrize("name", ["format", "version", "index_sha256"])
def test_attributes(name):
    def drop(file):
        del file.attrs[name]

    def retype(file):
        file.attrs[name] = file.attrs[name].astype(np.int64)

    def text(file):
        file.attrs[name] = "deepchip"

    for change in (drop, retype, text):
        found = refusal(put_together(STORED, DATASETS, change))
        assert name in found or "no DeepChip model" in found
