"""The demo's network: the package's ONNX against PyTorch and ONNX Runtime, and the demo itself."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import deepchip
from deepchip.demo import demo, draw
from tests.checks import data_folder

EXPORT = str(files("deepchip") / "data" / "lenet5.onnx")
PREDICTIONS = np.load(Path(__file__).parent / "data" / "lenet5_predictions.npz")
F32 = np.float32


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("lenet5") / "lenet5.dchip"
    deepchip.convert(EXPORT, path)
    return path


@pytest.fixture(scope="module")
def mnist():
    with np.load(data_folder("mnist.npz")) as data:
        return data["x_test"][:, None].astype(F32) / F32(255), data["y_test"]


def test_every_layer_is_ternary_and_reads_codes(model_file):
    graph = deepchip.load(model_file, backend="numpy").graph
    layers = list(graph.layers())
    assert [node.name for node in layers] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert [node.tensors["weight"].levels.shape for node in layers] == [(2,)] * 5
    bits = [graph.values[node.inputs[0]].quantization.bits for node in layers]
    assert bits == [8, 4, 4, 4, 4]
    assert [node.op for node in graph.nodes if node.op not in ("Conv", "FullyConnected")] == [
        "Quantize", "MaxPool", "MaxPool", "Reshape",
    ]  # fmt: skip


def test_the_size_of_the_file(model_file):
    """61,470 weights: 240 KB as float32, below 2 bits each as a file."""
    assert model_file.stat().st_size * 8 < 2 * 61470


def test_predictions_are_those_of_pytorch_and_onnx_runtime(model_file, mnist):
    images, labels = mnist
    found = deepchip.load(model_file)(images)
    classes = found.argmax(axis=1)
    assert (classes == PREDICTIONS["pytorch"]).sum() >= 9995
    session = onnxruntime.InferenceSession(EXPORT, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": images})
    assert (classes == logits.argmax(axis=1)).sum() >= 9995
    assert (classes == labels).mean() >= 0.988


def test_the_digits_that_come_along(model_file):
    """What anyone can check: the first 1,000 test digits are in the package."""
    with np.load(str(files("deepchip") / "data" / "digits.npz")) as digits:
        images, labels = digits["images"][:, None].astype(F32) / F32(255), digits["labels"]
    compiled, plain = (
        deepchip.load(model_file, backend=backend)(images) for backend in ("numba", "numpy")
    )
    assert compiled.tobytes() == plain.tobytes()
    assert (compiled.argmax(axis=1) == PREDICTIONS["pytorch"][:1000]).sum() >= 998
    assert (compiled.argmax(axis=1) == labels).mean() >= 0.98
    close = np.isclose(compiled[:100], PREDICTIONS["logits"], rtol=1e-3, atol=1e-3).all(axis=1)
    assert close.sum() >= 95  # a code at a tie may round differently in PyTorch


def test_backends_are_bit_identical(model_file, mnist):
    images, _ = mnist
    compiled, plain = (
        deepchip.load(model_file, backend=backend)(images) for backend in ("numba", "numpy")
    )
    assert compiled.tobytes() == plain.tobytes()


def test_the_demo_prints_what_it_promises(capsys):
    demo()
    out = capsys.readouterr().out
    for pattern in (
        r"size +[\d,]+ bytes as float32, [\d,]+ as a file: 1\.\d\d bits a weight",
        r"accuracy +9\d\d of 1000 digits, 9\d\.\d%",
        r"FPS +[\d,]+ one image at a time \(median; 95th percentile [\d,]+\)",
        r"memory +\d+ MB at peak",
        r"a 7, and it is",
    ):
        assert re.search(pattern, out), pattern


def test_drawing():
    white, black = np.ones((28, 28), F32), np.zeros((28, 28), F32)
    lines = draw(np.stack([white, black]), np.array([1, 2]), np.array([1, 3])).splitlines()
    assert len(lines) == 15
    assert lines[0] == "@" * 28 + "  " + " " * 28
    assert "a 1, and it is" in lines[-1]
    assert "a 2, but it is 3" in lines[-1]
