"""The networks of the benchmarks are those of the papers, with ternary weights, and they run."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import deepchip
from bench.networks import NETWORKS, build, images
from deepchip.runtime.costs import layer_costs

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

import onnxruntime

ZEROS = 0.63
SMALL = ("lenet5", "resnet20", "squeezenet", "googlenet", "resnet18")


def cifar(n):
    """Counts of a CIFAR-10 ResNet of 6 n + 2 layers, by hand: three stages of 2 n convolutions 3x3,
    of 16, 32, 64 channels, on planes of 32, 16, 8; projections before the second and third."""
    stages = (
        432 + 2 * n * 16 * 16 * 9,
        16 * 32 * 9 + 16 * 32 + (2 * n - 1) * 32 * 32 * 9,
        32 * 64 * 9 + 32 * 64 + (2 * n - 1) * 64 * 64 * 9,
    )
    macs = sum(size * side**2 for size, side in zip(stages, (32, 16, 8), strict=True))
    return sum(stages), macs, 640, 640


# Weights and multiply-accumulates of the convolutions, and of the fully connected layers. Sze et
# al., Efficient Processing of Deep Neural Networks, Proc. IEEE 105 (2017), table II, unless another
# source is named.
TABLE = {
    "alexnet": (2.3e6, 666e6, 58.6e6, 58.6e6),
    "vgg16": (14.7e6, 15.3e9, 124e6, 124e6),
    "resnet50": (23.5e6, 3.86e9, 2e6, 2e6),
    # Operations: Szegedy et al., CVPR 2015, table 1, the sum of its rows but the first, whose 34 M
    # are too few for its shapes; that convolution is counted here. The survey's 1.43 G do not
    # follow from the paper's table.
    "googlenet": (6.0e6, 1467e6 + 64 * 147 * 112**2, 1e6, 1e6),
    # Documentation of torchvision's model: 11.69 M parameters, 1.81 G in all.
    "resnet18": (11.69e6 - 0.51e6, 1.81e9, 512 * 1000, 512 * 1000),
}

EXACT = {
    "lenet5": (500 + 25_000, 500 * 24**2 + 25_000 * 8**2, 405_000, 405_000),
    "resnet20": cifar(3),
    "resnet44": cifar(7),
}

# Weights, biases, and scales and shifts of batch normalizations: the documentation of torchvision's
# models of these names, for SqueezeNet also table 1 of its paper.
PARAMETERS = {
    "vgg16": 138_357_544,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "squeezenet": 1_248_424,
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """A name and its model, built once."""
    return request.param, build(request.param, ZEROS)


def weights(model):
    """The weight of every layer, by the layer's kind."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    return [
        (node, tensors[node.input[1]])
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm")
    ]


def pixels(model):
    """How many positions of a plane each value has, inferred by onnx without the weights."""
    graph = model.graph
    given = [
        helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims)
        for tensor in graph.initializer
    ]
    bare = helper.make_graph(graph.node, "bare", [*graph.input, *given], graph.output)
    opset = list(model.opset_import)
    inferred = onnx.shape_inference.infer_shapes(
        helper.make_model(bare, opset_imports=opset, ir_version=model.ir_version), strict_mode=True
    ).graph
    return {
        value.name: prod(size.dim_value for size in value.type.tensor_type.shape.dim[2:])
        for value in (*inferred.value_info, *inferred.output)
    }


def counts(model):
    """Weights and multiply-accumulates of convolutions, then of fully connected layers."""
    planes = pixels(model)
    found = {"Conv": [0, 0], "Gemm": [0, 0]}
    for node, weight in weights(model):
        found[node.op_type][0] += prod(weight.dims)
        found[node.op_type][1] += prod(weight.dims) * planes[node.output[0]]
    return (*found["Conv"], *found["Gemm"])


@pytest.mark.parametrize("network", TABLE, indirect=True)
def test_counts(network):
    """Within 2.5 %: the table prints down to one digit."""
    name, model = network
    np.testing.assert_allclose(counts(model), TABLE[name], rtol=0.025)


@pytest.mark.parametrize("network", EXACT, indirect=True)
def test_exact_counts(network):
    name, model = network
    assert counts(model) == EXACT[name]


@pytest.mark.parametrize("network", PARAMETERS, indirect=True)
def test_parameters(network):
    name, model = network
    statistics = {
        tensor
        for node in model.graph.node
        if node.op_type == "BatchNormalization"
        for tensor in node.input[3:]
    }
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in statistics]
    assert sum(prod(tensor.dims) for tensor in kept) == PARAMETERS[name]


def test_depths():
    """He et al., CVPR 2016, section 4.2: 6 n + 2 layers; projections are not counted."""
    for name, depth in (("resnet20", 20), ("resnet44", 44)):
        assert len(weights(build(name))) == depth + 2


def test_weights_are_ternary(network):
    _, model = network
    scales = set()
    for _, tensor in weights(model):
        weight = numpy_helper.to_array(tensor)
        low, high = weight.min(), weight.max()
        assert low < 0 < high
        assert -low != high
        zero = np.count_nonzero(weight == 0)
        assert np.count_nonzero(weight == low) + np.count_nonzero(weight == high) + zero == (
            weight.size
        )
        assert abs(zero / weight.size - ZEROS) < 0.01
        scales.add((low, high))
    assert len(scales) == len(weights(model))


def test_seeds_and_zeros():
    first = build("lenet5", 0.5, seed=3).SerializeToString()
    assert build("lenet5", 0.5, seed=3).SerializeToString() == first
    assert build("lenet5", 0.5, seed=4).SerializeToString() != first
    sparse = numpy_helper.to_array(weights(build("lenet5", 0.9))[2][1])
    assert (sparse == 0).mean() == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("name", SMALL)
def test_float_activations_give_what_onnx_runtime_gives(name, tmp_path):
    """The error of an image's logits, by their length: single logits are sums that cancel."""
    model, x = build(name), images(name, 2)
    onnx.save(model, tmp_path / "net.onnx")
    deepchip.convert(tmp_path / "net.onnx", tmp_path / "net.dchip")
    ours = deepchip.load(tmp_path / "net.dchip")
    assert all(layer.levels == 2 for layer in layer_costs(ours.graph))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (expected,) = session.run(None, {"image": x})
    assert 0.1 < expected.std() < 100
    error = np.linalg.norm(ours(x) - expected, axis=1)
    assert (error <= 1e-4 * np.linalg.norm(expected, axis=1)).all()


@pytest.mark.parametrize("name", SMALL)
def test_every_layer_reads_codes(name, tmp_path):
    onnx.save(build(name), tmp_path / "net.onnx")
    deepchip.convert(
        tmp_path / "net.onnx", tmp_path / "net.dchip", activations=4, calibration=images(name, 2)
    )
    first, *others = layer_costs(deepchip.load(tmp_path / "net.dchip").graph)
    assert first.activation_bits == 8
    assert {layer.activation_bits for layer in others} == {4}
