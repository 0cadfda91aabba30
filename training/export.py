"""Write the trained network as ONNX, quantization included (opset 13)."""

from typing import Any

import numpy as np
import onnx
from activations import code_scale
from network import INPUT_BITS, LeNet5
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

OPSET = 13
IR_VERSION = 8
ORIGIN = {
    "origin": "trained on MNIST by training/lenet5.py of DeepChip",
    "license": "Apache-2.0",
}


class _Graph:
    """Nodes and constants in the making; a node and its output carry one name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Tensor | NDArray[np.generic]) -> str:
        array = value.detach().numpy() if isinstance(value, Tensor) else value
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, name: str, inputs: list[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def quantized(self, name: str, x: str, scale: str) -> str:
        codes = self.node("QuantizeLinear", f"{name}.quantize", [x, scale, "zero_point"])
        return self.node("DequantizeLinear", f"{name}.dequantize", [codes, scale, "zero_point"])

    def normalized(self, name: str, x: str, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> str:
        """Batch normalization, bounded ReLU and quantization of the layer `name`."""
        assert norm.running_mean is not None and norm.running_var is not None
        statistics = [
            self.constant(f"{name}.bn.scale", norm.weight),
            self.constant(f"{name}.bn.bias", norm.bias),
            self.constant(f"{name}.bn.mean", norm.running_mean),
            self.constant(f"{name}.bn.variance", norm.running_var),
        ]
        x = self.node("BatchNormalization", f"{name}.bn", [x, *statistics], epsilon=norm.eps)
        x = self.node("Relu", f"{name}.relu", [x])
        x = self.node("Min", f"{name}.bound", [x, "activation.bound"])
        return self.quantized(name, x, "activation.scale")


def build(network: LeNet5, bits: int) -> onnx.ModelProto:
    """Return the network as an ONNX model: `image` [N, 1, 28, 28] to `logits` [N, 10], float32.

    Parameters
    ----------
    network : LeNet5
        The trained network; batch normalization is written with its running statistics.
    bits : int
        Bits of a hidden activation.
    """
    graph = _Graph()
    graph.constant("image.scale", np.array(code_scale(INPUT_BITS), np.float32))
    graph.constant("activation.scale", np.array(code_scale(bits), np.float32))
    graph.constant("zero_point", np.array(0, np.uint8))
    graph.constant("activation.bound", np.array(1, np.float32))

    x = graph.quantized("image", "image", "image.scale")
    for name, padding, norm2d in (("conv1", 2, network.conv1_bn), ("conv2", 0, network.conv2_bn)):
        weight = graph.constant(f"{name}.weight", network.weight(name))
        x = graph.node("Conv", name, [x, weight], kernel_shape=[5, 5], pads=[padding] * 4)
        x = graph.normalized(name, x, norm2d)
        x = graph.node("MaxPool", f"{name}.pool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = graph.node("Flatten", "flatten", [x], axis=1)
    for name, norm1d in (("fc1", network.fc1_bn), ("fc2", network.fc2_bn)):
        weight = graph.constant(f"{name}.weight", network.weight(name))
        x = graph.node("Gemm", name, [x, weight], transB=1)
        x = graph.normalized(name, x, norm1d)
    weight = graph.constant("fc3.weight", network.weight("fc3"))
    bias = graph.constant("fc3.bias", network.fc3.bias)
    graph.nodes.append(
        helper.make_node("Gemm", [x, weight, bias], ["logits"], name="fc3", transB=1)
    )

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "lenet5",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 28, 28])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="deepchip",
    )
    helper.set_model_props(model, ORIGIN)
    onnx.checker.check_model(model, full_check=True)
    return model
