"""Hostile model files: each is what `small()` writes with one thing wrong, all digests right."""

from __future__ import annotations

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
INDEX, STREAMS = taken_apart(WHOLE)
STORED = zlib.compress(json.dumps(INDEX).encode())
TEBIBYTE = 2**40


def copy_of_index():
    return json.loads(json.dumps(INDEX))


def refusal(data: bytes) -> str:
    """The one line that refuses a file, which verifying finds wanting too."""
    with pytest.raises(InvalidModelError) as caught:
        read_model(data)
    text = str(caught.value)
    graph, faults = verify_model(data)
    assert graph is None
    assert faults
    assert all(len(fault.splitlines()) == 1 for fault in (text, *faults))
    return text


def with_dataset(name, make):
    """The model file whose dataset `name` is made by `make(file, name, its right bytes)`."""
    right = {"index": STORED, "streams": STREAMS}[name]

    def add(file):
        if name in file:
            del file[name]
        make(file, name, np.frombuffer(right, np.uint8))

    return put_together(STORED, STREAMS, add)


def test_what_the_attacks_are_made_of_is_whole():
    check_same_graph(read_model(put_together(INDEX, STREAMS)), small())


@pytest.mark.parametrize("name", ["index", "streams"])
class TestDatasets:
    """Each kind of dataset that is not plain bytes in this file, though it gives the right ones."""

    def test_external_storage(self, name, tmp_path):
        other = tmp_path / "other"

        def make(file, name, data):
            other.write_bytes(data.tobytes())
            file.create_dataset(name, data.shape, "u1", external=[(str(other), 0, data.size)])

        assert "lies in another file; expected plain bytes" in refusal(with_dataset(name, make))

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
        assert "is a group" in refusal(with_dataset(name, lambda f, n, data: f.create_group(n)))

    def test_a_type(self, name):
        def make(file, name, data):
            file[name] = np.dtype("u1")

        assert "is no dataset" in refusal(with_dataset(name, make))

    def test_compact(self, name):
        def make(file, name, data):
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_layout(h5py.h5d.COMPACT)
            space = h5py.h5s.create_simple(data.shape)
            made = h5py.h5d.create(file.id, name.encode(), h5py.h5t.STD_U8LE, space, properties)
            h5py.Dataset(made)[...] = data

        assert "expected plain bytes in one piece" in refusal(with_dataset(name, make))

    def test_missing(self, name):
        found = refusal(with_dataset(name, lambda *_: None))
        expected = {"index": "dataset 'index' is missing", "streams": "layer 'fc': its streams end"}
        assert expected[name] in found

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


def changed(change) -> bytes:
    """The model file after `change(index, node of the layer)`."""
    index = copy_of_index()
    change(index, index["nodes"][1])
    return put_together(index, STREAMS)


def test_terabytes_that_the_index_lists_as_well_are_not_believed():
    index = copy_of_index()
    index["nodes"][1]["tensors"]["bias"]["streams"][0][1] = TEBIBYTE - len(STREAMS) + 8

    def add(file):
        del file["streams"]
        file.create_dataset("streams", (TEBIBYTE,), "u1")

    assert f"declares {TEBIBYTE} bytes" in refusal(put_together(index, STREAMS, add))


@pytest.mark.parametrize("size", [0, 7, 9, 2**62, 10**40])
def test_sizes_that_the_index_lists_are_compared_with_the_file(size):
    def change(index, layer):
        layer["tensors"]["bias"]["streams"][0][1] = size

    found = refusal(changed(change))
    assert found.startswith("layer 'fc': ") or "bytes of streams are stored" in found


def test_an_index_that_does_not_match_its_digest():
    def add(file):
        file["index"][0] ^= 1

    data = put_together(STORED, STREAMS, add)
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
        found = refusal(put_together(STORED, STREAMS, change))
        assert name in found or "no DeepChip model" in found


@pytest.mark.parametrize("kind", ["group", "attribute", "link"])
def test_what_a_model_file_does_not_have(kind):
    def add(file):
        if kind == "group":
            file.create_group("notes")
        elif kind == "attribute":
            file.attrs["notes"] = np.zeros(3, np.uint8)
        else:
            file["notes"] = file["index"]

    assert "holds 'notes', which no model file has" in refusal(put_together(STORED, STREAMS, add))


def test_many_links_and_attributes():
    """HDF5 keeps more than eight of them in tables of their own."""

    def links(file):
        for i in range(20):
            file.create_group(f"group{i}")

    def attributes(file):
        for i in range(20):
            file.attrs[f"attribute{i}"] = np.zeros(3, np.uint8)

    for add in (links, attributes):
        assert "more links or attributes" in refusal(put_together(STORED, STREAMS, add))


def test_an_older_layout_of_hdf5():
    buffer = io.BytesIO()
    with h5py.File(io.BytesIO(WHOLE)) as file, h5py.File(buffer, "w", libver="earliest") as copy:
        for name in file:
            file.copy(name, copy)
    assert "superblock of version 0, expected 3" in refusal(buffer.getvalue())


def test_a_user_block():
    """HDF5 may begin at byte 512, 1024, 2048 ... (file format specification, II.A)."""
    assert "no HDF5 file, as model files are" in refusal(bytes(512) + WHOLE)
