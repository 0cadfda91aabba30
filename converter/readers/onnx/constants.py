"""What an ONNX file holds as constants, and what is computed from them while reading."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from deepchip.formats.errors import InvalidModelError, UnsupportedError, located
from deepchip.formats.graph import Shape

from ..limits import extend
from .scaled_integers import ScaledIntegers

Array = NDArray[Any]

BATCHES = (1009, 2003)
"""Batch sizes for which everything that is computed from shapes is computed, side by side: primes,
so that arithmetic on other sizes does not give them."""

SHAPES = frozenset({"Shape", "Size"})
"""Operators that need no more than the shape of what they read."""

# fmt: off
FOLDED = SHAPES | {
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "Div",
    "Equal", "Exp", "Expand", "Flatten", "Floor", "Gather", "Greater", "GreaterOrEqual", "Identity",
    "Less", "LessOrEqual", "Log", "MatMul", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pad",
    "Pow", "QuantizeLinear", "Range", "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape", "Round", "Sigmoid", "Sign", "Slice",
    "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
}
# fmt: on
"""Operators that are computed while reading where all they read is constant."""


MOVES = frozenset(
    {"Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Folded operators that move elements of their first input, so that integers stay integers."""


class Constants:
    """The constants of a model by name: initializers, Constant nodes, and what is folded.

    A result that depends on the batch, as Shape's does, is kept for two batch sizes. What both
    agree on is constant; an entry that follows the batch in both is the batch itself; anything
    else cannot be said without knowing the batch.
    """

    def __init__(self, graph: onnx.GraphProto, opset: int, folder: Path) -> None:
        if graph.sparse_initializer:
            raise UnsupportedError("holds sparse initializers, expected dense ones")
        self._opset = opset
        self._folder = folder
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._folded: dict[str, tuple[Array, Array]] = {}
        self._scaled: dict[str, ScaledIntegers] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._tensors or name in self._folded or name in self._scaled

    def give(self, name: str, constant: Array | ScaledIntegers) -> None:
        """Add a constant that an operator computed."""
        if isinstance(constant, ScaledIntegers):
            self._scaled[name] = constant
        else:
            self._folded[name] = (constant, constant)

    def scaled_integers(self, name: str) -> ScaledIntegers | None:
        """Return a constant as the integers that the file states; None if it states reals."""
        return self._scaled.get(name)

    def pair(self, name: str) -> tuple[Array, Array]:
        """Return a constant as it is for each of `BATCHES`."""
        if name in self._folded:
            return self._folded[name]
        # Decoded each time, so that no weight is held twice.
        if name in self._scaled:
            array: Array = self._scaled[name].to_dense()
        else:
            array = _to_array(self._tensors[name], self._folder)
        return array, array

    def __getitem__(self, name: str) -> Array:
        first, second = self.pair(name)
        if first is not second:
            raise UnsupportedError(
                f"{name!r} is computed from the batch size, expected a constant for every batch"
            )
        return first

    def fold(self, node: onnx.NodeProto, shape_of: Callable[[str], Shape]) -> None:
        """Compute the outputs of a node that reads constants, or nothing but shapes.

        `shape_of` gives the shape of an item of a value that is not constant.
        """
        if node.op_type == "Constant" and [a.name for a in node.attribute] == ["value"]:
            self._tensors[node.output[0]] = node.attribute[0].t
            return
        if node.op_type in MOVES and node.input[0] in self._scaled:
            self._scaled[node.output[0]] = self._moved(node)
            return
        feeds: tuple[dict[str, Array], dict[str, Array]] = ({}, {})
        for name in filter(None, node.input):
            if name in self:
                pair = self.pair(name)
            else:
                dummy = np.float32(0)
                first, second = (np.broadcast_to(dummy, (n, *shape_of(name))) for n in BATCHES)
                pair = (first, second)
            for feed, array in zip(feeds, pair, strict=True):
                feed[name] = array
        same = all(feeds[0][name] is feeds[1][name] for name in feeds[0])
        one = self._run(node, feeds[0])
        two = one if same else self._run(node, feeds[1])
        for name, first, second in zip(filter(None, node.output), one, two, strict=True):
            equal = first.shape == second.shape and bool((first == second).all())
            self._folded[name] = (first, first if equal else second)

    def _moved(self, node: onnx.NodeProto) -> ScaledIntegers:
        first, *others = node.input
        feeds = {name: self[name] for name in others if name}
        return self._scaled[first].moved(lambda array: self._run(node, {**feeds, first: array})[0])

    def _run(self, node: onnx.NodeProto, feeds: dict[str, Array]) -> list[Array]:
        inputs = [onnx.ValueInfoProto(name=name) for name in feeds]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "fold", inputs, outputs)
        try:
            with np.errstate(all="ignore"):
                evaluator = ReferenceEvaluator(graph, opsets={"": self._opset})
                return [np.asarray(array) for array in evaluator.run(None, feeds)]
        except Exception as error:  # whatever NumPy says of operands that do not fit
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InvalidModelError(
                f"layer {node.name or node.output[0]!r}: {node.op_type} of constants "
                f"cannot be computed: {reason}"
            ) from error


def _to_array(tensor: onnx.TensorProto, folder: Path) -> Array:
    with located(f"tensor {tensor.name!r}"):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor = _read_external(tensor, folder)
        _check_data(tensor)
        try:
            return numpy_helper.to_array(tensor)
        except (TypeError, ValueError, KeyError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InvalidModelError(f"damaged: {reason}") from error


_TYPED_DATA = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def _check_data(tensor: onnx.TensorProto) -> None:
    """Refuse what onnx would take for something else than was meant."""
    if any(size < 0 for size in tensor.dims):
        raise InvalidModelError(f"damaged: has shape {list(tensor.dims)}")
    if tensor.HasField("raw_data") and any(getattr(tensor, name) for name in _TYPED_DATA):
        raise InvalidModelError("damaged: states its elements twice")


def _read_external(tensor: onnx.TensorProto, folder: Path) -> onnx.TensorProto:
    """Return a tensor with the data it keeps in a file beside the model.

    A file elsewhere is refused, whether named by an absolute path, by '..' or by a link.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    root = folder.resolve()
    try:
        path = (root / location).resolve()
        offset, length = (int(entries.get(key, default)) for key, default in _WHOLE_FILE.items())
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidModelError(f"external data are not well formed: {entries}") from error
    if not location or Path(location).is_absolute() or not path.is_relative_to(root):
        raise InvalidModelError(
            f"external data {location!r} lie outside the model's folder; they have to lie in it"
        )
    if not path.is_file():
        raise InvalidModelError(
            f"external data {location!r} are missing, expected beside the model"
        )
    rest = os.path.getsize(path) - offset
    length = rest if length < 0 else length
    if not 0 <= length <= rest or offset < 0:
        raise InvalidModelError(
            f"external data {location!r} at {offset} of {length} bytes: the file has {rest} there"
        )
    extend(path)
    whole = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    with path.open("rb") as file:
        file.seek(offset)
        whole.raw_data = file.read(length)
    return whole


_WHOLE_FILE = {"offset": "0", "length": "-1"}
