"""Hostile indexes: each is that of `small()` with one thing wrong, all digests right."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
import zlib

import numpy as np
import pytest

from deepchip.formats import index as index_json
from deepchip.formats.container import MAX_INDEX
from deepchip.formats.errors import InvalidModelError
from tests.formats.networks import put_together
from tests.formats.test_model_file_attacks import (
    INDEX,
    STORED,
    STREAMS,
    changed,
    copy_of_index,
    refusal,
)


@pytest.mark.parametrize("extra", [MAX_INDEX, 64 * MAX_INDEX])
def test_an_index_is_unpacked_to_its_limit_only(extra):
    bomb = zlib.compress(json.dumps(INDEX).encode() + b" " * extra, 9)
    data = put_together(bomb, STREAMS)
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
    assert message in refusal(put_together(stored, STREAMS))


def resolved(name, entries):
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
    data = put_together(index, streams)
    assert "layer 'fc': bias holds NaN or infinity" in refusal(data)


def test_weights_of_levels_without_dimensions():
    index = copy_of_index()
    weight = index["nodes"][1]["tensors"]["weight"]
    weight["shape"] = []
    del weight["streams"][1]  # the gain, whose size depends on the shape
    data = put_together(index, STREAMS[:8] + STREAMS[16:])
    assert refusal(data).startswith("layer 'fc': weight: ")
