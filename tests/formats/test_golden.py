"""What earlier releases wrote, this one reads: golden files, and the example in SPEC.md."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from deepchip.formats.container import VERSION
from deepchip.formats.graph import Quantization
from deepchip.formats.model_file import model_bytes, read_model, verify_model
from tests.formats.networks import (
    check_same_graph,
    more_operators,
    operators,
    small,
    taken_apart,
)

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = ("csr", "runlength", "huffman")


@pytest.mark.parametrize("encoding", SMALL)
def test_numbers_in_golden_files(encoding):
    """Every number of the file, written down by hand."""
    graph = read_model(GOLDEN / f"v1-{encoding}.dchip")
    assert (graph.name, graph.inputs, graph.outputs) == ("small", ("x",), ("y",))
    assert {name: value.shape for name, value in graph.values.items()} == {
        "x": (3,),
        "a": (3,),
        "y": (2,),
    }
    assert graph.values["a"].quantization == Quantization(0.5, 3, 4)
    quantize, layer = graph.nodes
    assert (quantize.name, quantize.op, quantize.output) == ("quantize", "Quantize", "a")
    assert (layer.name, layer.op, layer.inputs) == ("fc", "FullyConnected", ("a",))
    weight = layer.tensors["weight"]
    assert weight.encoding == encoding
    np.testing.assert_array_equal(weight.decode().to_dense(), [[0, 1, 0], [2, 0, 1]])
    np.testing.assert_array_equal(weight.to_dense(), [[0, -0.5, 0], [1.5, 0, -1]])
    assert layer.tensors["bias"].tolist() == [0.25, -1]


@pytest.mark.parametrize("encoding", SMALL)
def test_streams_in_golden_files(encoding):
    """Levels -0.5 and 0.75, gains 1 and 2, what SPEC.md says of the matrix, biases 0.25 and -1."""
    own = {"csr": "092102", "runlength": "1502", "huffman": "101102"}[encoding]
    _, streams = taken_apart((GOLDEN / f"v1-{encoding}.dchip").read_bytes())
    stored = f"000000bf 0000403f 0000803f 00000040 {own} 0000803e 000080bf"
    assert streams == bytes.fromhex(stored)


@pytest.mark.parametrize(
    ("name", "expected"), [("operators", operators()), ("more-operators", more_operators())]
)
def test_golden_files_of_every_operator(name, expected):
    graph, faults = verify_model(GOLDEN / f"v1-{name}.dchip")
    assert faults == []
    check_same_graph(graph, expected)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.dchip")), ids=lambda path: path.name)
def test_golden_files_are_written_again_as_the_same_graph(path):
    graph = read_model(path)
    check_same_graph(read_model(model_bytes(graph)), graph)


def test_the_version_that_is_written_has_golden_files():
    assert len(list(GOLDEN.glob(f"v{VERSION}-*.dchip"))) >= 5
    assert sum(path.stat().st_size for path in GOLDEN.glob("*.dchip")) < 20_000


def test_the_example_in_the_specification_is_a_real_index():
    text = (files("deepchip.formats") / "SPEC.md").read_text()
    example = re.search(r"```json\n(.*?)```", text, re.DOTALL)[1]
    index, _ = taken_apart((GOLDEN / "v1-runlength.dchip").read_bytes())
    shortened = re.sub(r'"([0-9a-f]{8})[0-9a-f]{56}"', r'"\1"', json.dumps(index))
    assert json.loads(example) == json.loads(shortened)
    assert read_model(model_bytes(small(), "runlength")).name == index["name"]
