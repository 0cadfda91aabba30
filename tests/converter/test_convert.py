"""The whole way on small exports: what the report says, what the file holds, what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import deepchip
from deepchip.formats.errors import DeepChipError, InputError, UsageError
from deepchip.formats.graph import LevelWeights
from deepchip.formats.model_file import read_model
from tests.converter.graphs import F32, random
from tests.converter.onnx_models import make_model, run_onnx


def export(path, weight, op="Conv", **attributes):
    """An ONNX of conv -> Relu -> Flatten -> Gemm; `weight` is the convolution's."""
    outputs = weight.shape[0]
    nodes = [
        helper.make_node(op, ["x", "w"], ["y"], "conv", **attributes),
        helper.make_node("Relu", ["y"], ["r"], "relu"),
        helper.make_node("Flatten", ["r"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "v", "b"], ["z"], "fc", transB=1),
    ]
    tensors = {"w": weight, "v": random(1, 3, outputs * 16), "b": random(2, 3)}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 6, 6])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(t, n) for n, t in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path


@pytest.fixture
def network(tmp_path):
    weight = np.random.default_rng(0).choice(F32([-0.3, 0, 0.7]), (4, 2, 3, 3))
    return export(tmp_path / "net.onnx", weight)


def convert(network, **options):
    return deepchip.convert(network, network.with_suffix(".dchip"), **options)


def weights_of(network):
    graph = read_model(network.with_suffix(".dchip"))
    return {node.name: node.tensors["weight"] for node in graph.layers()}


def test_auto_keeps_a_ternary_tensor_exactly_and_others_float(network):
    report = convert(network)
    weights = weights_of(network)
    assert isinstance(weights["conv"], LevelWeights)
    np.testing.assert_array_equal(weights["conv"].levels, F32([-0.3, 0.7]))
    original = numpy_helper.to_array(onnx.load(network).graph.initializer[0])
    np.testing.assert_array_equal(weights["conv"].to_dense(), original)
    np.testing.assert_array_equal(weights["fc"], random(1, 3, 64))
    assert [layer.error for layer in report.layers] == [0, 0]
    assert report.float_bytes == 4 * (72 + 192 + 3)
    assert report.file_bytes == network.with_suffix(".dchip").stat().st_size


def test_methods_keep_float_and_the_reported_error(network):
    report = convert(network, weights="twn", keep_float=["conv"], encoding="csr", force=True)
    weights = weights_of(network)
    assert isinstance(weights["conv"], np.ndarray)
    assert weights["fc"].encoding == "csr"
    original = random(1, 3, 64)
    found = weights["fc"].to_dense()
    expected = np.linalg.norm(original - found) / np.linalg.norm(original)
    assert report.layers[1].error == pytest.approx(expected, rel=1e-5)
    assert 0.2 < expected < 0.8
    assert "exact" in str(report)


def test_quantized_activations_are_near_the_float_network(network):
    images = random(3, 32, 2, 6, 6)
    convert(network)
    float_logits = deepchip.load(network.with_suffix(".dchip"), backend="numpy")(images)
    convert(network, weights="kmeans:32", activations=8, calibration=images)
    model = deepchip.load(network.with_suffix(".dchip"), backend="numpy")
    assert model.graph.values["r"].quantization.bits == 8
    error = np.linalg.norm(model(images) - float_logits) / np.linalg.norm(float_logits)
    assert error < 0.1


def test_a_residual_block_becomes_two_convolutions(tmp_path):
    """As in a ResNet: two layers, the sum with what they read, ReLU; then a layer that reads it."""
    chosen = np.random.default_rng(1)
    tensors = {f"w{i}": chosen.choice(F32([-0.3, 0, 0.2]), (2, 2, 3, 3)) for i in range(4)}
    nodes = [
        *(
            helper.make_node("Conv", [x, f"w{i}"], [f"c{i}"], f"conv{i}", pads=[1, 1, 1, 1])
            for i, x in enumerate(["x", "r0", "r1", "r2"])
        ),
        *(helper.make_node("Relu", [x], [f"r{i}"]) for i, x in enumerate(["c0", "c1", "s"])),
        helper.make_node("Add", ["c2", "r0"], ["s"]),
    ]
    nodes = [nodes[i] for i in (0, 4, 1, 5, 2, 7, 6, 3)]
    model = make_model(nodes, {"x": ["N", 2, 6, 6]}, ["c3"], tensors)
    onnx.save(model, tmp_path / "net.onnx")
    images = random(3, 32, 2, 6, 6)
    report = convert(tmp_path / "net.onnx", activations=8, calibration=images)
    graph = read_model(tmp_path / "net.dchip")
    assert [node.op for node in graph.nodes] == ["Quantize"] + ["Conv"] * 4
    assert [len(node.inputs) for node in graph.layers()] == [1, 1, 2, 1]
    assert (graph.nodes[3].inputs, graph.nodes[3].output) == (("r1", "r0"), "r2")
    assert [layer.costs.activation_bits for layer in report.layers] == [8] * 4
    (expected,) = run_onnx(model, images)
    found = deepchip.load(tmp_path / "net.dchip", backend="numpy")(images)
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"weights": "ternry"}, "ternry"),
        ({"activations": 9}, "9"),
        ({"activations": "4bit"}, "4bit"),
        ({"activations": 4}, "calibration"),
        ({"activations": 4, "calibration": np.zeros((1, 3, 6, 6), F32)}, r"\(1, 3, 6, 6\)"),
        ({"calibration_rule": "best"}, "best"),
        ({"keep_float": ["conv9"]}, "conv9"),
        ({"encoding": "zip"}, "zip"),
    ],
)
def test_bad_options_leave_the_old_file_whole(network, options, found):
    target = network.with_suffix(".dchip")
    target.write_text("an older file")
    with pytest.raises(InputError, match=found) as caught:
        convert(network, **options)
    assert "\n" not in str(caught.value)
    assert target.read_text() == "an older file"
    assert sorted(p.name for p in network.parent.iterdir()) == ["net.dchip", "net.onnx"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("weights", ["auto", "float", "nary:4"])
def test_weights_that_are_not_finite_name_their_layer(tmp_path, value, weights):
    weight = random(0, 4, 2, 3, 3)
    weight[1, 1, 1, 1] = value
    network = export(tmp_path / "bad.onnx", weight)
    with pytest.raises(DeepChipError, match=r"bad\.onnx: .*(conv|'w').*NaN or infini"):
        convert(network, weights=weights)


def test_an_unknown_kind_of_file(tmp_path):
    (tmp_path / "net.tflite").write_bytes(b"")
    with pytest.raises(DeepChipError, match=r"net\.tflite: only \.onnx"):
        deepchip.convert(tmp_path / "net.tflite", tmp_path / "net.dchip")


def test_single_layers_have_methods_of_their_own(network):
    convert(network, weights="float", layer_weights=["f*=nary:16", "conv=auto"])
    weights = weights_of(network)
    np.testing.assert_array_equal(weights["conv"].levels, F32([-0.3, 0.7]))
    assert weights["fc"].levels.shape == (16,)


def test_a_method_that_destroys_is_refused_unless_forced(network):
    with pytest.raises(InputError, match=r"net\.onnx: the weights of 2 of 2 layers change by more"):
        convert(network, weights="binary")
    assert not network.with_suffix(".dchip").exists()
    with pytest.raises(InputError, match="change by more than 40%"):
        convert(network, weights="binary", calibration=random(3, 8, 2, 6, 6))
    convert(network, weights="binary", force=True)
    assert weights_of(network)["fc"].levels.tolist() == [-1, 1]


def test_pruned_filters_leave_the_network(network):
    images = random(3, 8, 2, 6, 6)
    report = convert(network, prune="magnitude:0.5,filter", layer_weights=["fc=float"])
    conv = weights_of(network)["conv"]
    assert conv.shape == (2, 2, 3, 3)
    assert weights_of(network)["fc"].shape == (3, 32)
    # Two of the four filters, and the columns of theirs: 4 * 18 * 16 and 3 * 64 MACs were there.
    assert (report.macs_before, report.macs_after) == (1344, 672)
    assert report.removed == {"conv": (4, 2, 3, 3), "fc": (3, 64)}
    assert "removed from 2 layers: 50.00% of the multiply-accumulates less" in str(report)
    onnx_model = onnx.load(network)
    weight = numpy_helper.to_array(onnx_model.graph.initializer[0]).copy()
    least = np.argsort(np.abs(weight).mean(axis=(1, 2, 3)), kind="stable")[:2]
    weight[least] = 0
    onnx_model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    (expected,) = run_onnx(onnx_model, images)
    found = deepchip.load(network.with_suffix(".dchip"), backend="numpy")(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_levels_are_chosen_for_a_target_size(network):
    images = random(3, 32, 2, 6, 6)
    small, large = (convert(network, target_size=size, calibration=images) for size in (2100, 2300))
    assert small.file_bytes <= 2100 < large.file_bytes <= 2300
    assert large.layers[1].error < small.layers[1].error
    assert small.layers[0].error == large.layers[0].error == 0  # ternary weights stay as they are


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_size": 1000}, "a budget needs calibration"),
        ({"target_size": 1000, "max_error": 0.1}, "give one of them"),
        ({"target_size": 0, "calibration": [0.0]}, "expected a number of bytes"),
        ({"max_error": 2.0, "calibration": [0.0]}, "expected a share between 0 and 1"),
        ({"target_size": 9, "weights": "twn", "calibration": [0.0]}, "leave weights out"),
        ({"restore": True}, "restoring layers needs calibration"),
        ({"layer_weights": ["conv"]}, "expected LAYER=METHOD"),
        ({"prune": "half"}, "expected magnitude:F"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        convert(tmp_path / "missing.onnx", **options)
