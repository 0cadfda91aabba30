"""Small graphs that the tests of the model file share, and model files taken apart by hand."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from deepchip.converter.builder import Builder
from deepchip.formats.csr import CSR
from deepchip.formats.graph import Graph, LevelWeights, Quantization, Shape

WINDOW: dict[str, Any] = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0)}
POOL: dict[str, Any] = {**WINDOW, "strides": (2, 2), "kernel": (2, 2), "ceil_mode": 0}
ACTIVATIONS: dict[str, Any] = {"Relu": {}, "LeakyRelu": {"alpha": 0.1}, "Softmax": {"axis": 0}}
FOUR_BITS = Quantization(0.5, 3, 4)


def floats(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, np.float32)


def mixed(*shape: int) -> NDArray[np.float32]:
    """Numbers from -50/16 to 50/16 in no order, the same with every NumPy."""
    return ((np.arange(np.prod(shape)) * 37 % 101 - 50) / 16).astype(np.float32).reshape(shape)


def level_weights(
    codes: ArrayLike, levels: ArrayLike, gain: ArrayLike | None = None, shape: Shape | None = None
) -> LevelWeights:
    """Weights of a matrix of level codes; `shape` is that of the matrix unless given."""
    matrix = np.array(codes, np.uint8)
    csr = CSR.from_dense(matrix)
    weights = LevelWeights.of(shape or matrix.shape, np.array(levels, np.float32), csr)
    return weights if gain is None else replace(weights, gain=np.array(gain, np.float32))


def small() -> Graph:
    """Codes and a ternary layer: the example of SPEC.md."""
    builder = Builder("small")
    builder.input("x", (3,))
    builder.add("Quantize", ["x"], "quantize", output="a", quantization=Quantization(0.5, 3, 4))
    weight = level_weights([[0, 1, 0], [2, 0, 1]], [-0.5, 0.75], gain=[1.0, 2.0])
    bias = floats(0.25, -1.0)
    builder.add("FullyConnected", ["a"], "fc", {}, {"weight": weight, "bias": bias}, output="y")
    return builder.finish(["y"])


def operators() -> Graph:
    """A graph of the operators of the first release, with weights of every kind.

    It has two inputs and outputs.
    """
    builder = Builder("every operator")
    image = builder.input("image", (2, 6, 6))
    extra = builder.input("extra", (16,))
    conv = {**WINDOW, "pads": (1, 1, 1, 1), "groups": 1}
    levels = np.sort(mixed(4, 3), axis=1)
    per_channel = level_weights(mixed(4, 18) * 16 % 4, levels, shape=(4, 2, 3, 3))
    x = builder.add("Quantize", [image], "codes", quantization=FOUR_BITS)
    x = builder.add("Conv", [x], "conv", conv, {"weight": per_channel}, quantization=FOUR_BITS)
    x = builder.add("MaxPool", [x], "maximum", POOL, quantization=FOUR_BITS)
    x = builder.add("Dequantize", [x], "reals")
    depthwise = {**conv, "groups": 4, "pads": (1, 0, 1, 2)}
    x = builder.add("Conv", [x], "float conv", depthwise, {"weight": mixed(4, 1, 3, 3)})
    scale, shift = mixed(2, 4, 1, 1)
    x = builder.add("Affine", [x], "norm", {}, {"scale": scale, "shift": shift})
    x = builder.add("Clip", [x], "clip", {"minimum": -1.5, "maximum": 6.0})
    x = builder.add("AveragePool", [x], "average", {**POOL, "count_include_pad": 1, "ceil_mode": 1})
    x = builder.add("Transpose", [x], "order", {"order": (1, 2, 0)})
    x = builder.add("Reshape", [x], "flat", {"shape": (16,)})
    a = builder.add("Relu", [x], "relu")
    b = builder.add("LeakyRelu", [extra], "leaky", {"alpha": 0.125})
    x = builder.add("Add", [a, b], "sum")
    x = builder.add("Mul", [x, extra], "product")
    x = builder.add("Concat", [x, a], "both", {"axis": 0})
    ternary = level_weights(mixed(5, 32) * 16 % 3, [-1, 2], gain=mixed(5))
    x = builder.add("FullyConnected", [x], "fc", {}, {"weight": ternary, "bias": mixed(5)})
    x = builder.add("Elu", [x], "elu", {"alpha": 1.0})
    x = builder.add("Sigmoid", [x], "sigmoid")
    x = builder.add("Tanh", [x], "tanh")
    y = builder.add("Softmax", [x], "softmax", {"axis": 0})
    return builder.finish([y, a])


def more_operators() -> Graph:
    """A graph of the operators that came after those of the first release, codes among them."""
    builder = Builder("more operators")
    x = builder.input("image", (3, 4, 4))
    lrn = {"size": 3, "alpha": 0.0001, "beta": 0.75, "bias": 1.0}
    x = builder.add("Lrn", [x], "lrn", lrn)
    x = builder.add("PRelu", [x], "prelu", {}, {"slope": mixed(3, 1, 1)})
    x = builder.add("Quantize", [x], "codes", quantization=FOUR_BITS)
    padding = {"pads": (0, 1, 0, 0, 2, 1), "value": -0.75}
    x = builder.add("Pad", [x], "pad", padding, quantization=FOUR_BITS)
    take = {"axis": 0, "indices": (2, 0, 1, 1)}
    x = builder.add("Take", [x], "take", take, quantization=FOUR_BITS)
    resample = {"axis": 2, "indices": (0, 1, 1, 2, 4, 3)}
    x = builder.add("Resample", [x], "resample", resample, {"weights": mixed(3, 2)})
    for op in (
        "Bipolar", "Sign", "Abs", "Sqrt", "Exp", "Reciprocal", "Log", "Erf", "Softplus", "Round",
        "Floor", "Ceil",
    ):  # fmt: skip
        x = builder.add(op, [x], op.lower())
    y = x
    for op in ("Sub", "Div", "Max", "Min"):
        y = builder.add(op, [y, x], op.lower())
    return builder.finish([y])


def every_graph() -> list[Graph]:
    """Graphs that hold every operator between them."""
    return [operators(), more_operators()]


def residual() -> Graph:
    """A convolution of 4 channels over the codes 'a', to which the codes 'b' are added."""
    builder = Builder("residual")
    image = builder.input("image", (2, 6, 6))
    builder.input("skip", (4, 6, 6))
    builder.add("Quantize", [image], "a", quantization=FOUR_BITS)
    builder.add("Quantize", ["skip"], "b", quantization=FOUR_BITS)
    attributes = {**WINDOW, "pads": (1, 1, 1, 1), "groups": 1}
    weight = level_weights(mixed(4, 18) * 16 % 3, [-0.5, 0.75], shape=(4, 2, 3, 3))
    builder.add("Conv", ["a", "b"], "conv", attributes, {"weight": weight}, quantization=FOUR_BITS)
    return builder.finish([builder.add("Dequantize", ["conv"], "y")])


def lenet5() -> Graph:
    """The layers of LeNet-5 with random ternary weights, 37 % of them nonzero."""
    builder = Builder("lenet5")
    random = np.random.default_rng(5)
    x = builder.input("image", (1, 28, 28))

    def tensors(*shape: int) -> dict[str, Any]:
        matrix = (shape[0], int(np.prod(shape[1:])))
        codes = (random.random(matrix) < 0.37) * random.integers(1, 3, matrix)
        gain, bias = random.random((2, shape[0]), np.float32)
        return {"weight": level_weights(codes, [-0.5, 0.75], gain, shape), "bias": bias}

    def layer(name: str, op: str, *shape: int, **attributes: Any) -> str:
        return builder.add(op, [x], name, attributes, tensors(*shape), quantization=FOUR_BITS)

    x = builder.add("Quantize", [x], "codes", quantization=FOUR_BITS)
    x = layer("conv1", "Conv", 6, 1, 5, 5, **{**WINDOW, "pads": (2, 2, 2, 2)}, groups=1)
    x = builder.add("MaxPool", [x], "pool1", POOL, quantization=FOUR_BITS)
    x = layer("conv2", "Conv", 16, 6, 5, 5, **WINDOW, groups=1)
    x = builder.add("MaxPool", [x], "pool2", POOL, quantization=FOUR_BITS)
    x = builder.add("Reshape", [x], "flat", {"shape": (400,)}, quantization=FOUR_BITS)
    x = layer("fc1", "FullyConnected", 120, 400)
    x = layer("fc2", "FullyConnected", 84, 120)
    x = builder.add("FullyConnected", [x], "fc3", {}, tensors(10, 84))
    return builder.finish([x])


@st.composite
def weights(draw: st.DrawFn) -> LevelWeights:
    """Weights [M, K] of levels: shared or per channel, with or without a gain, dense to empty."""
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 300))
    count = draw(st.sampled_from([1, 2, 3, 4, 15, 16, 255]))
    density = draw(st.sampled_from([0.0, 0.003, 0.1, 0.5, 1.0]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    skewed = 1 + (count * random.random((rows, columns)) ** draw(st.integers(1, 6))).astype(int)
    codes = np.where(random.random((rows, columns)) < density, skewed, 0)
    shape = (rows, count) if draw(st.booleans()) else (count,)
    gain = random.normal(size=rows) if draw(st.booleans()) else None
    return level_weights(codes, np.sort(random.normal(size=shape), axis=-1), gain)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Chains of layers over vectors, with names of printable characters."""
    names = st.text("aZ0 .:/_'é畳😀", min_size=1, max_size=8)
    weight = draw(weights())
    builder = Builder(draw(names))
    x = builder.input(draw(names), (weight.shape[1],))
    zero_point, bits = draw(st.sampled_from([(0, 1), (3, 2), (128, 8)]))
    scale = draw(st.floats(2.0**-100, 2.0**100, width=32))
    for _ in range(draw(st.integers(0, 3))):
        quantization = Quantization(scale, zero_point, bits) if draw(st.booleans()) else None
        op = draw(st.sampled_from(list(ACTIVATIONS)))
        x = builder.add(op, [x], draw(names), ACTIVATIONS[op], quantization=quantization)
    bias = {} if draw(st.booleans()) else {"bias": np.zeros(weight.shape[0], np.float32)}
    y = builder.add("FullyConnected", [x], draw(names), {}, {"weight": weight, **bias})
    return builder.finish([y])


def check_same_weights(found: LevelWeights, expected: LevelWeights) -> None:
    assert (found.shape, found.nonzeros) == (expected.shape, expected.nonzeros)
    assert (found.gain is None) == (expected.gain is None)
    if found.gain is not None:
        np.testing.assert_array_equal(found.gain, expected.gain, strict=True)
    np.testing.assert_array_equal(found.levels, expected.levels, strict=True)
    np.testing.assert_array_equal(found.decode().to_dense(), expected.decode().to_dense())


def check_same_graph(found: Graph, expected: Graph) -> None:
    """Everything that a file says of a graph is the same, weights bit by bit."""
    for name in ("name", "inputs", "outputs", "values"):
        assert getattr(found, name) == getattr(expected, name)
    assert len(found.nodes) == len(expected.nodes)
    for node, wanted in zip(found.nodes, expected.nodes, strict=True):
        for name in ("name", "op", "inputs", "output", "attributes"):
            assert getattr(node, name) == getattr(wanted, name)
        assert list(node.tensors) == list(wanted.tensors)
        for name, tensor in node.tensors.items():
            other = wanted.tensors[name]
            if isinstance(tensor, LevelWeights) and isinstance(other, LevelWeights):
                check_same_weights(tensor, other)
            else:
                np.testing.assert_array_equal(tensor, other, strict=True)


def taken_apart(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The index of a model file, and its streams."""
    with h5py.File(io.BytesIO(data)) as file:
        streams = file["streams"][()].tobytes() if "streams" in file else b""
        return json.loads(zlib.decompress(file["index"][()].tobytes())), streams


def put_together(
    index: dict[str, Any] | bytes,
    streams: bytes,
    add: Callable[[h5py.File], None] = lambda file: None,
) -> bytes:
    """A model file of an index (bytes: as they are stored) and streams, whatever they say."""
    stored = index if isinstance(index, bytes) else zlib.compress(json.dumps(index).encode())
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v110", "v110")) as file:
        for name, data in {"index": stored, "streams": streams}.items():
            file[name] = np.frombuffer(data, np.uint8)
        file.attrs["format"] = np.frombuffer(b"deepchip", np.uint8)
        file.attrs["version"] = np.uint32(1)
        file.attrs["index_sha256"] = np.frombuffer(hashlib.sha256(stored).digest(), np.uint8)
        add(file)
    return buffer.getvalue()


def with_stream(data: bytes, layer: str, tensor: str, name: str, stream: bytes) -> bytes:
    """A model file with another stream in a tensor, and the size and digest that belong to it."""
    index, stored = taken_apart(data)
    start = 0
    for node in index["nodes"]:
        for key, description in node["tensors"].items():
            for entry in description["streams"]:
                if (node["name"], key, entry[0]) == (layer, tensor, name):
                    stored = stored[:start] + stream + stored[start + entry[1] :]
                    entry[1:] = [len(stream), hashlib.sha256(stream).hexdigest()]
                    return put_together(index, stored)
                start += entry[1]
    raise KeyError(name)
