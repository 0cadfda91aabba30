"""The networks that the field compares itself by, as ONNX models with random ternary weights.

`build("resnet18")` gives the architecture of the paper with weights that were not trained: each
tensor takes -Wn, 0 and +Wp, in random places. What a runtime does with such a network takes as long
as if it were trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8

F32 = np.float32
Array = NDArray[np.float32]
Shape = tuple[int, ...]


def build(name: str, zeros: float = 0.63, seed: int = 0) -> onnx.ModelProto:
    """Return a network as an ONNX model, float32 'image' [N, C, H, W] to float32 'logits' [N, K].

    Parameters
    ----------
    name : one of `NETWORKS`
    zeros : share of the weights of each tensor that are zero
    seed : of everything random

    Raises
    ------
    KeyError
        No network has this name.
    """
    network = NETWORKS[name]
    net = _Net(zeros, np.random.default_rng(seed))
    logits = network.add(net, Value("image", network.image))
    net.nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        net.nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *network.image])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", *logits.shape])],
        net.tensors,
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


def images(name: str, count: int, seed: int = 1) -> Array:
    """Return random images for a network, float32 [count, C, H, W] of mean 0 and variance 1."""
    random = np.random.default_rng(seed)
    return (random.random((count, *NETWORKS[name].image), F32) - F32(0.5)) * F32(12**0.5)


@dataclass(frozen=True)
class Value:
    """A value of the network; `shape` is of one item."""

    name: str
    shape: Shape


@dataclass
class _Net:
    """Nodes and tensors in the making; a method adds a layer and returns what it gives."""

    zeros: float
    random: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def conv(
        self,
        x: Value,
        filters: int,
        kernel: int,
        stride: int = 1,
        pad: int = 0,
        groups: int = 1,
    ) -> Value:
        """Convolution with a bias, then ReLU."""
        y = self._conv(x, filters, kernel, stride, pad, groups, bias=True)
        return self.relu(y)

    def conv_norm(
        self, x: Value, filters: int, kernel: int, stride: int = 1, gain: float = 1.0
    ) -> Value:
        """Convolution padded to keep the plane, then batch normalization by about `gain`."""
        y = self._conv(x, filters, kernel, stride, kernel // 2, 1, bias=False)
        random = self.random
        statistics = {
            "scale": gain * random.uniform(0.8, 1.2, filters),
            "shift": 0.1 * random.standard_normal(filters),
            "mean": 0.1 * random.standard_normal(filters),
            "variance": random.uniform(0.8, 1.2, filters),
        }
        names = [self._tensor(role, array) for role, array in statistics.items()]
        return self._node("BatchNormalization", [y.name, *names], y.shape)

    def fully_connected(self, x: Value, outputs: int) -> Value:
        """Fully connected layer with a bias, of what is flattened first where it has planes."""
        if len(x.shape) > 1:
            x = self.flatten(x)
        weight = self._tensor("weight", self._ternary((outputs, *x.shape)))
        bias = self._tensor("bias", 0.1 * self.random.standard_normal(outputs))
        return self._node("Gemm", [x.name, weight, bias], (outputs,), transB=1)

    def flatten(self, x: Value) -> Value:
        return self._node("Flatten", [x.name], (int(np.prod(x.shape)),))

    def relu(self, x: Value) -> Value:
        return self._node("Relu", [x.name], x.shape)

    def max_pool(self, x: Value, kernel: int, stride: int, pad: int = 0, ceil: int = 0) -> Value:
        """Max pooling; `ceil` 1 rounds the number of windows up, as Caffe does."""
        last = stride - 1 if ceil else 0
        sizes = [(n + 2 * pad - kernel + last) // stride + 1 for n in x.shape[1:]]
        return self._node(
            "MaxPool",
            [x.name],
            (x.shape[0], *sizes),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[pad] * 4,
            ceil_mode=ceil,
        )

    def mean(self, x: Value) -> Value:
        """Average of each plane."""
        return self._node("GlobalAveragePool", [x.name], (x.shape[0], 1, 1))

    def add(self, x: Value, y: Value) -> Value:
        return self._node("Add", [x.name, y.name], x.shape)

    def concat(self, parts: list[Value]) -> Value:
        channels = sum(part.shape[0] for part in parts)
        names = [part.name for part in parts]
        return self._node("Concat", names, (channels, *parts[0].shape[1:]), axis=1)

    def _conv(
        self, x: Value, filters: int, kernel: int, stride: int, pad: int, groups: int, bias: bool
    ) -> Value:
        shape = (filters, x.shape[0] // groups, kernel, kernel)
        inputs = [x.name, self._tensor("weight", self._ternary(shape))]
        if bias:
            inputs.append(self._tensor("bias", 0.1 * self.random.standard_normal(filters)))
        sizes = [(n + 2 * pad - kernel) // stride + 1 for n in x.shape[1:]]
        return self._node(
            "Conv",
            inputs,
            (filters, *sizes),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=groups,
        )

    def _ternary(self, shape: Shape) -> Array:
        """Return random weights of three values that keep the variance through a ReLU.

        Their mean is zero and their variance 2 / fan-in (He et al., Delving Deep into Rectifiers,
        ICCV 2015, section 2.2): with shares p and n of the two signs, p Wp = n Wn, and so
        p Wp^2 + n Wn^2 = (p + n) Wp Wn.
        """
        size, fan_in = int(np.prod(shape)), int(np.prod(shape[1:]))
        ratio = self.random.uniform(0.8, 1.25)  # Wp / Wn
        middle = np.sqrt(2 / (fan_in * (1 - self.zeros)))
        positive, negative = F32(middle * np.sqrt(ratio)), F32(-middle / np.sqrt(ratio))
        nonzero = round(size * (1 - self.zeros))
        plus = round(nonzero / (1 + ratio))
        weight = np.zeros(size, F32)
        weight[:plus], weight[plus:nonzero] = positive, negative
        self.random.shuffle(weight)
        return weight.reshape(shape)

    def _tensor(self, role: str, array: NDArray[np.floating]) -> str:
        name = f"{role}{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(array.astype(F32, copy=False), name))
        return name

    def _node(self, op: str, inputs: list[str], shape: Shape, **attributes: Any) -> Value:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return Value(name, shape)


def _lenet5(net: _Net, x: Value) -> Value:
    """Caffe's LeNet for MNIST (examples/mnist/lenet.prototxt): 431 k weights."""
    for filters in (20, 50):
        # There, no activation function stands behind the convolutions; codes want the ReLU.
        x = net.max_pool(net.conv(x, filters, 5), 2, 2)
    return net.fully_connected(net.relu(net.fully_connected(x, 500)), 10)


def _alexnet(net: _Net, x: Value) -> Value:
    """Krizhevsky et al., ImageNet Classification with Deep CNNs, NIPS 2012, section 3.5.

    Three of its convolutions have two groups; local response normalization is left out.
    """
    x = net.max_pool(net.conv(x, 96, 11, stride=4), 3, 2)
    x = net.max_pool(net.conv(x, 256, 5, pad=2, groups=2), 3, 2)
    x = net.conv(x, 384, 3, pad=1)
    x = net.conv(x, 384, 3, pad=1, groups=2)
    x = net.max_pool(net.conv(x, 256, 3, pad=1, groups=2), 3, 2)
    return _head(net, x)


def _vgg16(net: _Net, x: Value) -> Value:
    """Simonyan, Zisserman, Very Deep Convolutional Networks, ICLR 2015, table 1, column D."""
    for filters, layers in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(layers):
            x = net.conv(x, filters, 3, pad=1)
        x = net.max_pool(x, 2, 2)
    return _head(net, x)


def _head(net: _Net, x: Value) -> Value:
    for outputs in (4096, 4096):
        x = net.relu(net.fully_connected(x, outputs))
    return net.fully_connected(x, 1000)


def _squeezenet(net: _Net, x: Value) -> Value:
    """Iandola et al., SqueezeNet, arXiv 1602.07360, table 1 (version 1.0)."""
    x = net.max_pool(net.conv(x, 96, 7, stride=2), 3, 2, ceil=1)
    for index, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64), start=2):
        x = net.conv(x, squeeze, 1)
        x = net.concat([net.conv(x, 4 * squeeze, 1), net.conv(x, 4 * squeeze, 3, pad=1)])
        if index in (4, 8):
            x = net.max_pool(x, 3, 2, ceil=1)
    x = net.mean(net.conv(x, 1000, 1))
    return net.flatten(x)


# Filters: 1x1; 1x1 then 3x3; 1x1 then 5x5; 1x1 behind the pooling.
_INCEPTIONS = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


def _googlenet(net: _Net, x: Value) -> Value:
    """Szegedy et al., Going Deeper with Convolutions, CVPR 2015, table 1; without normalization."""
    x = net.max_pool(net.conv(x, 64, 7, stride=2, pad=3), 3, 2, ceil=1)
    x = net.conv(net.conv(x, 64, 1), 192, 3, pad=1)
    x = net.max_pool(x, 3, 2, ceil=1)
    for index, filters in enumerate(_INCEPTIONS):
        if index in (2, 7):
            x = net.max_pool(x, 3, 2, ceil=1)
        one, before_three, three, before_five, five, pooled = filters
        x = net.concat(
            [
                net.conv(x, one, 1),
                net.conv(net.conv(x, before_three, 1), three, 3, pad=1),
                net.conv(net.conv(x, before_five, 1), five, 5, pad=2),
                net.conv(net.max_pool(x, 3, 1, pad=1), pooled, 1),
            ]
        )
    return net.fully_connected(net.mean(x), 1000)


_RESIDUAL_GAIN = 0.3
"""What a residual branch adds stays small, or the variance would double with every block."""


def _basic(net: _Net, x: Value, filters: int, stride: int) -> Value:
    """He et al., figure 5, left; a projection where the shape changes."""
    y = net.relu(net.conv_norm(x, filters, 3, stride))
    y = net.conv_norm(y, filters, 3, gain=_RESIDUAL_GAIN)
    return net.relu(net.add(y, _shortcut(net, x, filters, stride)))


def _bottleneck(net: _Net, x: Value, filters: int, stride: int) -> Value:
    """He et al., figure 5, right: the stride is that of the first convolution."""
    y = net.relu(net.conv_norm(x, filters // 4, 1, stride))
    y = net.relu(net.conv_norm(y, filters // 4, 3))
    y = net.conv_norm(y, filters, 1, gain=_RESIDUAL_GAIN)
    return net.relu(net.add(y, _shortcut(net, x, filters, stride)))


def _shortcut(net: _Net, x: Value, filters: int, stride: int) -> Value:
    return x if x.shape[0] == filters else net.conv_norm(x, filters, 1, stride)


def _resnet(
    block: Callable[[_Net, Value, int, int], Value], filters: int, blocks: tuple[int, ...]
) -> Callable[[_Net, Value], Value]:
    """He et al., Deep Residual Learning, CVPR 2016, table 1."""

    def add(net: _Net, x: Value) -> Value:
        x = net.max_pool(net.relu(net.conv_norm(x, 64, 7, 2)), 3, 2, pad=1)
        x = _stages(net, x, block, filters, blocks)
        return net.fully_connected(net.mean(x), 1000)

    return add


def _resnet_cifar(depth: int) -> Callable[[_Net, Value], Value]:
    """He et al., section 4.2, with projections, not padding, where the shape changes (option B)."""

    def add(net: _Net, x: Value) -> Value:
        x = net.relu(net.conv_norm(x, 16, 3))
        x = _stages(net, x, _basic, 16, ((depth - 2) // 6,) * 3)
        return net.fully_connected(net.mean(x), 10)

    return add


def _stages(
    net: _Net,
    x: Value,
    block: Callable[[_Net, Value, int, int], Value],
    filters: int,
    blocks: tuple[int, ...],
) -> Value:
    """Stages of blocks; from the second stage on, the first block halves the plane."""
    for stage, count in enumerate(blocks):
        for index in range(count):
            x = block(net, x, filters << stage, 2 if stage and not index else 1)
    return x


@dataclass(frozen=True)
class Network:
    """What is built for a name: the shape of an image, (C, H, W), and what adds the layers."""

    image: Shape
    add: Callable[[_Net, Value], Value]


NETWORKS = {
    "lenet5": Network((1, 28, 28), _lenet5),
    "resnet20": Network((3, 32, 32), _resnet_cifar(20)),
    "resnet44": Network((3, 32, 32), _resnet_cifar(44)),
    "squeezenet": Network((3, 224, 224), _squeezenet),
    "googlenet": Network((3, 224, 224), _googlenet),
    "resnet18": Network((3, 224, 224), _resnet(_basic, 64, (2, 2, 2, 2))),
    "resnet50": Network((3, 224, 224), _resnet(_bottleneck, 256, (3, 4, 6, 3))),
    "alexnet": Network((3, 227, 227), _alexnet),
    "vgg16": Network((3, 224, 224), _vgg16),
}
