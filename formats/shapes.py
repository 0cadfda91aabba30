"""The shape that each operator gives, and what has to fit for it to give one.

Shapes are of one item: axis 0 here is axis 1 of the arrays. Every function takes a node and the
shapes of its inputs, and raises InvalidModelError where they do not fit each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from .attributes import integer, ints
from .errors import InvalidModelError
from .graph import LevelWeights, Node, Shape

MAX_DIMENSIONS = 8


def text_of(shapes: Sequence[Shape]) -> str:
    """Return the shapes as errors name them."""
    return " and ".join(map(str, shapes))


def require(condition: bool, text: str) -> None:
    """Raise InvalidModelError with `text` unless the condition holds."""
    if not condition:
        raise InvalidModelError(text)


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


def conv(node: Node, inputs: Sequence[Shape]) -> Shape:
    """(C, H, W) to (M, H', W'); a residual has the shape of the output."""
    shape, *residual = inputs
    require(len(shape) == 3, f"Conv reads {shape}, expected (channels, height, width)")
    weight = node.tensors["weight"].shape
    require(len(weight) == 4, f"Conv weights have shape {weight}, expected 4 dimensions")
    outputs, channels, *kernel = weight
    groups = integer(node, "groups")
    require(
        channels * groups == shape[0] and outputs % groups == 0,
        f"Conv weights {weight} in {groups} groups do not fit an input of {shape[0]} channels",
    )
    _check_per_channel(node, outputs)
    output = (outputs, *_windows(node, shape, kernel, ceil=False))
    for added in residual:
        require(
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


def fully_connected(node: Node, inputs: Sequence[Shape]) -> Shape:
    """(K,) to (M,)."""
    (shape,) = inputs
    weight = node.tensors["weight"].shape
    require(len(weight) == 2, f"FullyConnected weights have shape {weight}, expected 2 dimensions")
    require(
        shape == weight[1:],
        f"FullyConnected weights {weight} do not fit an input of shape {shape}",
    )
    _check_per_channel(node, weight[0])
    return weight[:1]


def _check_per_channel(node: Node, outputs: int) -> None:
    if "bias" in node.tensors:
        shape = node.tensors["bias"].shape
        require(shape == (outputs,), f"bias has shape {shape}, expected ({outputs},)")
    weight = node.tensors["weight"]
    if isinstance(weight, LevelWeights):
        levels = weight.levels.shape
        require(
            1 <= len(levels) <= 2 and levels[:-1] in ((), (outputs,)) and levels[-1] <= 255,
            f"levels have shape {levels}, expected (L,) or ({outputs}, L), L at most 255",
        )
        ascending = weight.levels[..., :-1] <= weight.levels[..., 1:]
        require(bool(ascending.all()), "levels are not in ascending order")
        gain = weight.gain
        require(
            gain is None or gain.shape == (outputs,),
            f"gain has another shape than ({outputs},)",
        )


def pool(node: Node, inputs: Sequence[Shape]) -> Shape:
    """(C, H, W) to (C, H', W')."""
    (shape,) = inputs
    require(len(shape) == 3, f"{node.op} reads {shape}, expected (channels, height, width)")
    kernel, pads, dilations = (ints(node, name) for name in ("kernel", "pads", "dilations"))
    # A window that held nothing but padding would have no maximum, and an average of no elements:
    # none may lie wholly in the pads, nor step over the whole plane.
    reach = [dilations[i % 2] * (kernel[i % 2] - 1) + 1 for i in range(4)]
    require(
        all(pad < r for pad, r in zip(pads, reach, strict=True)),
        f"{node.op} pads {pads} reach as far as its kernel {kernel}",
    )
    require(
        all(k == 1 or d <= n for k, d, n in zip(kernel, dilations, shape[1:], strict=True)),
        f"{node.op} dilations {dilations} step over an input of {shape}",
    )
    return (shape[0], *_windows(node, shape, kernel, ceil=bool(integer(node, "ceil_mode"))))


def same(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Any shape to the same."""
    return inputs[0]


def affine(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Any shape to the same; scale and shift broadcast to it."""
    for name in ("scale", "shift"):
        _check_broadcasts(node, name, inputs[0])
    return inputs[0]


def prelu(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Any shape to the same; the slope broadcasts to it."""
    _check_broadcasts(node, "slope", inputs[0])
    return inputs[0]


def _check_broadcasts(node: Node, name: str, shape: Shape) -> None:
    found = node.tensors[name].shape
    require(
        _broadcast([found, shape]) == shape,
        f"{name} of shape {found} does not broadcast to {shape}",
    )


def _broadcast(shapes: Sequence[Shape]) -> Shape | None:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


def binary(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Two shapes that broadcast to each other, of as many dimensions."""
    require(
        len(inputs[0]) == len(inputs[1]),
        f"{node.op} of shapes {text_of(inputs)}, expected as many dimensions",
    )
    shape = _broadcast(inputs)
    if shape is None:
        raise InvalidModelError(f"{node.op} of shapes {text_of(inputs)}, which do not broadcast")
    return shape


def softmax(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Any shape that has the axis to the same."""
    require(integer(node, "axis") < len(inputs[0]), f"Softmax over a missing axis of {inputs[0]}")
    return inputs[0]


def concat(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Shapes that differ along one axis at most to their sum along it."""
    axis = integer(node, "axis")
    first = inputs[0]
    require(axis < len(first), f"Concat over a missing axis of {first}")
    around = len(first), first[:axis], first[axis + 1 :]
    require(
        all((len(shape), shape[:axis], shape[axis + 1 :]) == around for shape in inputs),
        f"Concat of shapes {text_of(inputs)} over axis {axis}",
    )
    return (*first[:axis], sum(shape[axis] for shape in inputs), *first[axis + 1 :])


def reshape(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Any shape to one of as many elements."""
    shape = ints(node, "shape")
    # Not the product of as many numbers as a file likes.
    fits = len(shape) <= MAX_DIMENSIONS and prod(shape) == prod(inputs[0])
    require(fits, f"Reshape of {inputs[0]} to {shape}")
    return shape


def transpose(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Axes in another order."""
    order, shape = ints(node, "order"), inputs[0]
    require(sorted(order) == list(range(len(shape))), f"Transpose of {shape} in the order {order}")
    return tuple(shape[axis] for axis in order)


def lrn(node: Node, inputs: Sequence[Shape]) -> Shape:
    """(C, ...) to the same."""
    require(len(inputs[0]) >= 1, "Lrn reads single numbers, expected channels first")
    return inputs[0]


def take(node: Node, inputs: Sequence[Shape]) -> Shape:
    """One axis becomes as long as there are indices."""
    shape = inputs[0]
    return _replaced(shape, _indexed_axis(node, shape), len(ints(node, "indices")))


def resample(node: Node, inputs: Sequence[Shape]) -> Shape:
    """One axis becomes as long as the weights have rows."""
    shape, weights = inputs[0], node.tensors["weights"].shape
    axis, count = _indexed_axis(node, shape), len(ints(node, "indices"))
    require(
        len(weights) == 2 and weights[0] * weights[1] == count,
        f"Resample weights of shape {weights} for {count} indices, expected (outputs, taps)",
    )
    return _replaced(shape, axis, weights[0])


def _indexed_axis(node: Node, shape: Shape) -> int:
    """Return the axis that the node's indices count along, none of which lies outside."""
    axis, indices = integer(node, "axis"), ints(node, "indices")
    require(axis < len(shape), f"{node.op} along a missing axis of {shape}")
    require(
        max(indices, default=shape[axis]) < shape[axis],
        f"{node.op} of {len(indices)} indices up to {max(indices, default=0)} along axis {axis} "
        f"of {shape}, expected 1 or more below {shape[axis]}",
    )
    return axis


def _replaced(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def pad(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Every axis grows by what stands before and behind it."""
    shape, pads = inputs[0], ints(node, "pads")
    require(
        len(pads) == 2 * len(shape), f"Pad by {pads} of {shape}, expected {2 * len(shape)} numbers"
    )
    before, after = pads[: len(shape)], pads[len(shape) :]
    return tuple(sum(sizes) for sizes in zip(before, shape, after, strict=True))
