"""The operators a graph may hold: what each carries, and the shape of what it gives.

One table serves the readers, the model file and the plan. Shapes are of one item: axis 0 here is
axis 1 of the arrays. What a kernel indexes follows from these shapes, so everything that comes from
a file passes through `check_node` before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, prod

import numpy as np

from .errors import InvalidModelError
from .graph import LevelWeights, Node, Shape, Tensor

MAX_ELEMENTS = 2**31 - 1
"""Elements of one value or weight tensor: kernels index with 32 bits."""


@dataclass(frozen=True)
class Attribute:
    """What an attribute may be: a number, or `count` numbers (None: any count)."""

    type: type[int] | type[float] = int
    minimum: float = -float("inf")
    maximum: float = float("inf")
    count: int | None = 1
    scalar: bool = True

    def check(self, value: object) -> None:
        """Raise InvalidModelError unless `value` is of this kind."""
        numbers = (value,) if self.scalar else value
        if not isinstance(numbers, tuple) or (self.count not in (None, len(numbers))):
            raise InvalidModelError(f"is {value!r}, expected {self.count} numbers")
        for number in numbers:
            exact = type(number) is self.type  # a bool is an int to isinstance
            if not exact or not self.minimum <= number <= self.maximum:
                raise InvalidModelError(
                    f"is {value!r}, expected {self.type.__name__} "
                    f"from {self.minimum} to {self.maximum}"
                )


@dataclass(frozen=True)
class Operator:
    """An entry of the table.

    Attributes
    ----------
    shape : function of the node and its inputs' shapes that returns the output's shape, and raises
        InvalidModelError where they do not fit
    arity : how many inputs it may have; None: one or more
    attributes : all of them have to be there, and no others
    required, optional : names of tensors
    """

    shape: Callable[[Node, Sequence[Shape]], Shape]
    arity: tuple[int, ...] | None = (1,)
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def check_node(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Prove that a node is well formed for inputs of these shapes.

    Returns
    -------
    Shape of its output.

    Raises
    ------
    InvalidModelError
        Unknown operator; missing, unknown or impossible attribute or tensor; shapes that do not
        fit each other; an output with a dimension below 1 or of 2**31 elements and more.
    """
    operator = OPERATORS.get(node.op)
    if operator is None:
        raise InvalidModelError(f"operator {node.op!r} is unknown")
    if not inputs or (operator.arity is not None and len(inputs) not in operator.arity):
        expected = "1 or more" if operator.arity is None else " or ".join(map(str, operator.arity))
        raise InvalidModelError(f"{node.op} has {len(inputs)} inputs, expected {expected}")
    _check_names("attributes", node.attributes, operator.attributes, operator.attributes)
    allowed = (*operator.required, *operator.optional)
    _check_names("tensors", node.tensors, operator.required, allowed)
    for name, attribute in operator.attributes.items():
        try:
            attribute.check(node.attributes[name])
        except InvalidModelError as error:
            raise InvalidModelError(f"attribute {name!r} {error}") from None
    for name, tensor in node.tensors.items():
        if isinstance(tensor, LevelWeights) and name != "weight":
            raise InvalidModelError(f"{name} has levels; only weights can")
    shape = operator.shape(node, inputs)
    if any(n < 1 for n in shape) or prod(shape) > MAX_ELEMENTS:
        raise InvalidModelError(f"{node.op} of {_text(inputs)} would give shape {shape}")
    return shape


def _check_names(
    what: str,
    found: Mapping[str, object],
    needed: Sequence[str] | Mapping[str, object],
    allowed: Sequence[str] | Mapping[str, object],
) -> None:
    missing, unknown = sorted(set(needed) - set(found)), sorted(set(found) - set(allowed))
    if missing or unknown:
        raise InvalidModelError(f"{what}: missing {missing}, unknown {unknown}")


def _text(shapes: Sequence[Shape]) -> str:
    return " and ".join(map(str, shapes))


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise InvalidModelError(text)


def tensor_shape(tensor: Tensor) -> Shape:
    """Return the shape of a tensor, whether of levels or of floats."""
    return tensor.shape


def ints(node: Node, name: str) -> tuple[int, ...]:
    """Return an attribute of several integers."""
    value = node.attributes[name]
    assert isinstance(value, tuple)
    return value


def integer(node: Node, name: str) -> int:
    """Return an attribute of one integer."""
    value = node.attributes[name]
    assert isinstance(value, int)
    return value


def real(node: Node, name: str) -> float:
    """Return an attribute of one real number."""
    value = node.attributes[name]
    assert isinstance(value, float)
    return value


def window_outputs(
    size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil: bool
) -> int:
    """Return how many places a window takes along one axis.

    With `ceil` a last window may reach beyond the padding, but none starts there (ONNX MaxPool,
    AveragePool; PyTorch likewise).
    """
    room = size + before + after - dilation * (kernel - 1) - 1
    outputs = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (outputs - 1) * stride >= size + before:
        outputs -= 1
    return max(0, outputs)


def _conv(node: Node, inputs: Sequence[Shape]) -> Shape:
    shape, *residual = inputs
    _require(len(shape) == 3, f"Conv reads {shape}, expected (channels, height, width)")
    weight = tensor_shape(node.tensors["weight"])
    _require(len(weight) == 4, f"Conv weights have shape {weight}, expected 4 dimensions")
    outputs, channels, *kernel = weight
    groups = integer(node, "groups")
    _require(
        channels * groups == shape[0] and outputs % groups == 0,
        f"Conv weights {weight} in {groups} groups do not fit an input of {shape[0]} channels",
    )
    _check_per_channel(node, outputs)
    output = (outputs, *_windows(node, shape, kernel, ceil=False))
    for added in residual:
        _require(
            added == output,
            f"Conv adds a residual of shape {added}, expected the shape of its output, {output}",
        )
    return output


def _windows(node: Node, shape: Shape, kernel: Sequence[int], ceil: bool) -> tuple[int, ...]:
    strides, pads, dilations = (ints(node, name) for name in ("strides", "pads", "dilations"))
    return tuple(
        window_outputs(
            shape[1 + i], kernel[i], strides[i], pads[i], pads[2 + i], dilations[i], ceil
        )
        for i in range(2)
    )


def _fully_connected(node: Node, inputs: Sequence[Shape]) -> Shape:
    (shape,) = inputs
    weight = tensor_shape(node.tensors["weight"])
    _require(len(weight) == 2, f"FullyConnected weights have shape {weight}, expected 2 dimensions")
    _require(
        shape == weight[1:],
        f"FullyConnected weights {weight} do not fit an input of shape {shape}",
    )
    _check_per_channel(node, weight[0])
    return weight[:1]


def _check_per_channel(node: Node, outputs: int) -> None:
    if "bias" in node.tensors:
        shape = tensor_shape(node.tensors["bias"])
        _require(shape == (outputs,), f"bias has shape {shape}, expected ({outputs},)")
    weight = node.tensors["weight"]
    if isinstance(weight, LevelWeights):
        levels = weight.levels.shape
        _require(
            1 <= len(levels) <= 2 and levels[:-1] in ((), (outputs,)) and levels[-1] <= 255,
            f"levels have shape {levels}, expected (L,) or ({outputs}, L), L at most 255",
        )
        _require(bool((np.diff(weight.levels) >= 0).all()), "levels are not in ascending order")
        gain = weight.gain
        _require(
            gain is None or gain.shape == (outputs,),
            f"gain has another shape than ({outputs},)",
        )


def _pool(node: Node, inputs: Sequence[Shape]) -> Shape:
    (shape,) = inputs
    _require(len(shape) == 3, f"{node.op} reads {shape}, expected (channels, height, width)")
    kernel, pads, dilations = (ints(node, name) for name in ("kernel", "pads", "dilations"))
    # A window that held nothing but padding would have no maximum, and an average of no elements:
    # none may lie wholly in the pads, nor step over the whole plane.
    reach = [dilations[i % 2] * (kernel[i % 2] - 1) + 1 for i in range(4)]
    _require(
        all(pad < r for pad, r in zip(pads, reach, strict=True)),
        f"{node.op} pads {pads} reach as far as its kernel {kernel}",
    )
    _require(
        all(k == 1 or d <= n for k, d, n in zip(kernel, dilations, shape[1:], strict=True)),
        f"{node.op} dilations {dilations} step over an input of {shape}",
    )
    return (shape[0], *_windows(node, shape, kernel, ceil=bool(integer(node, "ceil_mode"))))


def _same(node: Node, inputs: Sequence[Shape]) -> Shape:
    return inputs[0]


def _affine(node: Node, inputs: Sequence[Shape]) -> Shape:
    for name in ("scale", "shift"):
        shape = tensor_shape(node.tensors[name])
        _require(
            _broadcast([shape, inputs[0]]) == inputs[0],
            f"{name} of shape {shape} does not broadcast to {inputs[0]}",
        )
    return inputs[0]


def _broadcast(shapes: Sequence[Shape]) -> Shape | None:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


def _binary(node: Node, inputs: Sequence[Shape]) -> Shape:
    _require(
        len(inputs[0]) == len(inputs[1]),
        f"{node.op} of shapes {_text(inputs)}, expected as many dimensions",
    )
    shape = _broadcast(inputs)
    if shape is None:
        raise InvalidModelError(f"{node.op} of shapes {_text(inputs)}, which do not broadcast")
    return shape


def _softmax(node: Node, inputs: Sequence[Shape]) -> Shape:
    _require(integer(node, "axis") < len(inputs[0]), f"Softmax over a missing axis of {inputs[0]}")
    return inputs[0]


def _concat(node: Node, inputs: Sequence[Shape]) -> Shape:
    axis = integer(node, "axis")
    first = inputs[0]
    _require(axis < len(first), f"Concat over a missing axis of {first}")
    for shape in inputs:
        _require(
            len(shape) == len(first)
            and shape[:axis] == first[:axis]
            and shape[axis + 1 :] == first[axis + 1 :],
            f"Concat of shapes {_text(inputs)} over axis {axis}",
        )
    return (*first[:axis], sum(shape[axis] for shape in inputs), *first[axis + 1 :])


def _reshape(node: Node, inputs: Sequence[Shape]) -> Shape:
    shape = ints(node, "shape")
    _require(prod(shape) == prod(inputs[0]), f"Reshape of {inputs[0]} to {shape}")
    return shape


def _transpose(node: Node, inputs: Sequence[Shape]) -> Shape:
    order, shape = ints(node, "order"), inputs[0]
    _require(sorted(order) == list(range(len(shape))), f"Transpose of {shape} in the order {order}")
    return tuple(shape[axis] for axis in order)


_MOST = 2**16
_FINITE = float(np.finfo(np.float32).max)
_number = Attribute(float, -_FINITE, _FINITE)
_flag = Attribute(int, 0, 1)
_axis = Attribute(int, 0, 7)
_pair = Attribute(int, 1, _MOST, 2, scalar=False)
_pads = Attribute(int, 0, _MOST, 4, scalar=False)
_WINDOW = {"strides": _pair, "dilations": _pair, "pads": _pads}
_POOL = {**_WINDOW, "kernel": _pair, "ceil_mode": _flag}

OPERATORS: Mapping[str, Operator] = {
    "Conv": Operator(
        _conv,
        arity=(1, 2),
        attributes={**_WINDOW, "groups": Attribute(int, 1, _MOST)},
        required=("weight",),
        optional=("bias",),
    ),
    "FullyConnected": Operator(_fully_connected, required=("weight",), optional=("bias",)),
    "MaxPool": Operator(_pool, attributes=_POOL),
    "AveragePool": Operator(_pool, attributes={**_POOL, "count_include_pad": _flag}),
    "Affine": Operator(_affine, required=("scale", "shift")),
    "Relu": Operator(_same),
    "Clip": Operator(_same, attributes={"minimum": _number, "maximum": _number}),
    "LeakyRelu": Operator(_same, attributes={"alpha": _number}),
    "Elu": Operator(_same, attributes={"alpha": _number}),
    "Sigmoid": Operator(_same),
    "Tanh": Operator(_same),
    "Softmax": Operator(_softmax, attributes={"axis": _axis}),
    "Add": Operator(_binary, arity=(2,)),
    "Mul": Operator(_binary, arity=(2,)),
    "Concat": Operator(_concat, arity=None, attributes={"axis": _axis}),
    "Reshape": Operator(
        _reshape, attributes={"shape": Attribute(int, 1, MAX_ELEMENTS, None, scalar=False)}
    ),
    "Transpose": Operator(
        _transpose, attributes={"order": Attribute(int, 0, 7, None, scalar=False)}
    ),
    "Quantize": Operator(_same),
    "Dequantize": Operator(_same),
}
"""Attributes: `pads` are (top, left, bottom, right); `strides`, `dilations` and `kernel` are
(vertical, horizontal); `axis` and `order` count the axes of an item."""


def macs(node: Node, output: Shape) -> int:
    """Return the multiply-accumulates of one item, were all weights there and float."""
    if "weight" not in node.tensors:
        return 0
    weight = tensor_shape(node.tensors["weight"])
    return prod(weight) * prod(output[1:])


def is_finite(tensor: Tensor) -> bool:
    """Say whether a tensor holds neither NaN nor infinity."""
    if isinstance(tensor, LevelWeights):
        parts = [tensor.levels] if tensor.gain is None else [tensor.levels, tensor.gain]
        return all(bool(np.isfinite(part).all()) for part in parts)
    with np.errstate(invalid="ignore"):  # a sum needs no temporary array, unlike np.isfinite
        return isfinite(float(np.sum(np.abs(tensor), dtype=np.float64)))
