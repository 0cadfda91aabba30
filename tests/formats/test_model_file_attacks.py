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

from deepchip.formats import index as index_json
from deepchip.formats.errors import InvalidModelError
from deepchip.formats.model_file import MAX_INDEX, model_bytes, read_model, verify_model
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


@pytest.mark.parametrize("extra", [MAX_INDEX, 64 * MAX_INDEX])
def test_an_index_is_unpacked_to_its_limit_only(extra):
    bomb = zlib.compress(json.dumps(INDEX).encode() + b" " * extra, 9)
    data = put_together(bomb, DATASETS)
    tracemalloc.start()
    assert f"more than {MAX_INDEX} bytes" in refusal(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MAX_INDEX


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (b"not zlib", "does not unpack"),
        (STORED[:-1], "or not wholly"),
        (STORED + b"\0", "or not wholly"),
        (zlib.compress(b"\xff\xfe\xff"), "the index is no JSON"),
        (zlib.compress(b""), "the index is no JSON"),
        (zlib.compress(b"{" + json.dumps(INDEX).encode()), "the index is no JSON"),
        (zlib.compress(json.dumps(INDEX).encode() + b"{}"), "the index is no JSON"),
        (zlib.compress(b"[]"), "'[]' stands where an object should"),
        (zlib.compress(b"1" * 5000), "the index"),
    ],
)
def test_other_indexes(stored, message):
    assert message in refusal(put_together(stored, DATASETS))


def resolved(position, name, entries):
    return {}


def index_refusal(text: str | bytes) -> str:
    with pytest.raises(InvalidModelError) as caught:
        index_json.from_json(text.encode() if isinstance(text, str) else text, resolved)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("depth", [1_000, 1_000_000])
@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_refused(depth, left, right):
    nested = left * depth + "1" + right * depth
    index_refusal(nested)
    index_refusal(json.dumps(INDEX).replace('"attributes": {}', f'"attributes": {nested}', 1))


@pytest.mark.parametrize("path", [(), ("nodes", 0), ("nodes", 1), ("values", "x"), ("values", "a"),
                                  ("values", "a", "quantization")])  # fmt: skip
def test_missing_unknown_and_doubled_keys_are_refused(path):
    def at(index):
        for key in path:
            index = index[key]
        return index

    names = [key for key in at(INDEX) if key != "quantization"]
    for name in names:
        index = copy_of_index()
        del at(index)[name]
        assert "expected [" in index_refusal(json.dumps(index))
    index = copy_of_index()
    at(index)["more"] = 1
    assert "'more'" in index_refusal(json.dumps(index))
    whole = json.dumps(at(INDEX))
    doubled = whole[:-1] + f', "{names[0]}": {json.dumps(at(INDEX)[names[0]])}}}'
    text = json.dumps(INDEX).replace(whole, doubled)
    assert "names a key twice" in index_refusal(text)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("producer",), None, "producer is 'None', expected str"),
        (("name",), 1, "name is '1', expected str"),
        (("inputs",), "x", "inputs is 'x', expected list"),
        (("outputs",), [1], "[1] is no list of names"),
        (("values",), [], "values is '[]', expected dict"),
        (("nodes",), {}, "nodes is '{}', expected list"),
        (("nodes", 0), [], "layer 0: '[]' stands where an object should"),
        (("nodes", 0, "op"), None, "layer 0: op is 'None', expected str"),
        (("nodes", 0, "inputs"), [["x"]], "layer 'quantize': [['x']] is no list of names"),
        (("nodes", 0, "attributes"), {"a": True}, "'a' is neither a number nor a list"),
        (("nodes", 0, "attributes"), {"a": "1"}, "'a' is neither a number nor a list"),
        (("nodes", 0, "attributes"), {"a": [1, 2.0]}, "'a' is neither a number nor a list"),
        (("nodes", 0, "attributes"), {"a": [1, False]}, "'a' is neither a number nor a list"),
        (("nodes", 0, "attributes"), {"a": None}, "'a' is neither a number nor a list"),
        (("nodes", 0, "attributes"), [], "attributes is '[]', expected dict"),
        (("nodes", 1, "tensors", "bias"), 1, "layer 'fc': '1' stands where an object should"),
        (("nodes", 1, "tensors", "bias", "streams"), None, "a tensor names no streams"),
        (("nodes", 1, "tensors", "bias", "streams", 0), ["values", 8], "expected name, size"),
        (("nodes", 1, "tensors", "bias", "streams", 0), ["values", -8, ""], "expected name, size"),
        (("nodes", 1, "tensors", "bias", "streams", 0), ["values", 8.0, ""], "expected name, size"),
        (("nodes", 1, "tensors", "bias", "streams", 0), ["values", True, ""], "expected name"),
        (("nodes", 1, "tensors", "bias", "streams"), [["a", 0, ""]] * 2, "names a stream twice"),
        (("values", "x"), None, "value 'x': 'None' stands where an object should"),
        (("values", "x", "shape"), 3, "value 'x': shape is '3', expected list"),
        (("values", "x", "shape"), [3.0], "shape is [3.0], expected integers"),
        (("values", "x", "shape"), [True], "shape is [True], expected integers"),
        (("values", "a", "quantization"), None, "quantization is 'None', expected dict"),
        (("values", "a", "quantization", "scale"), 1, "scale is '1', expected float"),
        (("values", "a", "quantization", "scale"), True, "scale is 'True', expected float"),
        (("values", "a", "quantization", "scale"), 0.1, "scale 0.1 is not a float32"),
        (("values", "a", "quantization", "zero_point"), 0.0, "zero_point is '0.0', expected int"),
        (("values", "a", "quantization", "zero_point"), False, "zero_point is 'False'"),
        (("values", "a", "quantization", "bits"), 4.0, "bits is '4.0', expected int"),
        (("values", "a", "quantization", "bits"), 9, "activations of 9 bits"),
    ],
)  # fmt: skip
def test_wrong_types_are_refused(path, value, message):
    index = copy_of_index()
    parent = index
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    assert message in index_refusal(json.dumps(index))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_tokens_that_are_no_json_are_refused(number):
    assert f"{number} is no number" in index_refusal(json.dumps(INDEX).replace("0.5", number))


def test_numbers_beyond_float64_are_refused():
    assert "scale inf" in index_refusal(json.dumps(INDEX).replace("0.5", "1e400"))


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", "\x7f", "\u202e", "\ud800", "n" * 257])
@pytest.mark.parametrize("what", ["graph", "layer", "value"])
def test_names_that_cannot_be_shown_are_refused(what, name):
    def change(index, layer):
        if what == "graph":
            index["name"] = name
        elif what == "layer":
            layer["name"] = name
        else:
            index["values"][name] = index["values"].pop("y")
            index["outputs"] = [name]
            layer["output"] = name

    text = refusal(changed(change))
    assert f"a {what} is named" in text
    assert text.isprintable()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index, layer: layer.update(op="Lstm"), "layer 'fc': operator 'Lstm' is unknown"),
        (lambda index, layer: layer.update(attributes={"axis": 0}), "unknown ['axis']"),
        (lambda index, layer: layer["tensors"].pop("weight"), "layer 'fc': "),
        (lambda index, layer: layer["tensors"]["weight"].update(levels=3), "layer 'fc': weight: "),
        (lambda index, layer: layer["tensors"]["weight"].update(more=3), "layer 'fc': weight: "),
        (lambda index, layer: index["values"]["y"].update(shape=[3]), "gives shape (2,)"),
        (lambda index, layer: layer.update(inputs=["y"]), "layer 'fc': reads 'y', which no layer"),
        (lambda index, layer: index.update(outputs=["a"]), "'a' is quantized, expected float32"),
        (lambda index, layer: index.update(inputs=[]), "expected one or more of each"),
    ],
)
def test_graphs_that_contradict_themselves(change, message):
    assert message in refusal(changed(change))


def test_nan_in_a_tensor():
    streams = STREAMS[:-4] + np.float32(np.nan).tobytes()

    index = copy_of_index()
    digest = hashlib.sha256(streams[-8:]).hexdigest()
    index["nodes"][1]["tensors"]["bias"]["streams"][0][2] = digest
    data = put_together(index, {"1": streams})
    assert "layer 'fc': bias holds NaN or infinity" in refusal(data)


def test_weights_of_levels_without_dimensions():
    index = copy_of_index()
    weight = index["nodes"][1]["tensors"]["weight"]
    weight["shape"] = []
    del weight["streams"][1]  # the gain, whose size depends on the shape
    data = put_together(index, {"1": STREAMS[:8] + STREAMS[16:]})
    assert refusal(data).startswith("layer 'fc': weight: ")
