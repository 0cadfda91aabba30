"""ONNX files that ask for more memory or time than their size accounts for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.helper import make_node as node

from deepchip.formats.errors import DeepChipError, InvalidModelError, UnsupportedError
from tests.checks import needs_memory_limits
from tests.converter.onnx_models import make_model

from .exports import MEMORY, OVER, attacked, check_attack
from .harness import check_bounds
from .onnx_parts import RELU, added, integers, message, model, saved

# ---- Constants that are much larger than the file


def doubled() -> onnx.ModelProto:
    """2**40 numbers by joining a tensor with itself."""
    nodes = [
        node("Concat", [f"a{i}", f"a{i}"], [f"a{i + 1}" if i < 39 else "c"], axis=0)
        for i in range(40)
    ]
    return added(*nodes, a0=np.float32([1]))


def outer(op: str) -> onnx.ModelProto:
    """2**30 numbers of two vectors of 2**15."""
    column = np.zeros((2**15, 1), np.float32)
    return added(node(op, ["a", "b"], ["c"]), a=column, b=column.T)


def many_slices() -> onnx.ModelProto:
    """Each of them turns an axis of 2**24 numbers around."""
    names = [f"s{i}" for i in range(100)]
    nodes = [node("Slice", ["x", "begin", "end", "axes", "steps"], [name]) for name in names]
    bounds = {"begin": integers(2**24), "end": integers(-(2**40)), "axes": integers(1)}
    return make_model(
        [*nodes, node("Sum", names, ["y"])],
        {"x": ["N", 2**24]},
        constants={**bounds, "steps": integers(-1)},
    )


def many_phases() -> onnx.ModelProto:
    """Each of them is a convolution of 2**20 output channels."""
    names = [f"t{i}" for i in range(200)]
    nodes = [node("ConvTranspose", ["x", "w"], [name], strides=[1024, 1024]) for name in names]
    weight = np.ones((1, 1, 1, 1), np.float32)
    return make_model(
        [*nodes, node("Sum", names, ["y"])], {"x": ["N", 1, 4, 4]}, constants={"w": weight}
    )


TERABYTES = integers(2**40)
ALLOCATE = "cannot be computed: Unable to allocate"
GIGABYTES = ["broadcast", "product", "doubled"]
"""These ask for what some machines have."""
BOMBS: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "fill": (lambda: added(node("ConstantOfShape", ["s"], ["c"]), s=TERABYTES), ALLOCATE),
    "expand": (
        lambda: added(node("Expand", ["a", "s"], ["c"]), s=TERABYTES, a=np.float32([1])),
        ALLOCATE,
    ),
    "tile": (
        lambda: added(node("Tile", ["a", "s"], ["c"]), s=TERABYTES, a=np.float32([1])),
        ALLOCATE,
    ),
    "pad": (
        lambda: added(node("Pad", ["a", "s"], ["c"]), s=integers(0, 2**40), a=np.float32([1])),
        ALLOCATE,
    ),
    "range": (
        lambda: added(
            node("Range", ["a", "b", "d"], ["c"]),
            a=np.array(0),
            b=np.array(2**40),
            d=np.array(1),
        ),
        ALLOCATE,
    ),
    "broadcast": (lambda: outer("Add"), ALLOCATE),
    "product": (lambda: outer("MatMul"), ALLOCATE),
    "doubled": (doubled, ALLOCATE),
    "sparse": (
        lambda: added(
            node(
                "Constant",
                [],
                ["c"],
                sparse_value=helper.make_sparse_tensor(
                    numpy_helper.from_array(np.float32([1]), "v"),
                    numpy_helper.from_array(integers(0), "i"),
                    [2**40],
                ),
            )
        ),
        "layer 'c': Constant of constants cannot be computed",
    ),
    "tile of items": (lambda: model(node("Tile", ["x", "s"], ["y"]), s=integers(1, 2**40)), MEMORY),
    "edges": (
        lambda: model(node("Pad", ["x", "s"], ["y"], mode="edge"), s=integers(0, 0, 0, 2**40)),
        MEMORY,
    ),
    "slices": (many_slices, OVER),
    "phases": (many_phases, OVER),
    "resize": (
        lambda: make_model(
            [node("Resize", ["x", "", "s"], ["y"])],
            {"x": ["N", 1, 4, 4]},
            constants={"s": np.float32([1, 1, 2.0**28, 1])},
        ),
        MEMORY,
    ),
    "items": (
        lambda: make_model([node("Shape", ["x"], ["s"]), RELU], {"x": ["N", 2**62, 2**62]}),
        "input 'x' has items of shape (4611686018427387904, 4611686018427387904)",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_that_ask_for_much_memory(tmp_path: Path, name: str) -> None:
    make, text = BOMBS[name]
    if name in GIGABYTES:
        needs_memory_limits()
    check_attack(InvalidModelError, text, saved(tmp_path, make()))


# ---- Structures that are much larger, deeper or wider than a network's


def many_nodes() -> bytes:
    """Two million nodes of nothing, each of which takes two bytes here and a hundred in memory."""
    return model(RELU).SerializeToString() + message(7, message(1, b"") * 2_000_000)


def many_constants() -> onnx.ModelProto:
    names = ["a", *(f"c{i}" for i in range(20_000)), "c"]
    nodes = [node("Neg", [first], [then]) for first, then in pairwise(names)]
    return added(*nodes, a=np.float32([1, 2, 3]))


def deep() -> bytes:
    """Branches in branches: the attribute "then_branch" (5: a graph) of an If, a thousand times."""
    graph = message(1, RELU.SerializeToString())
    for _ in range(1000):
        branch = message(1, b"then_branch") + message(6, graph) + b"\xa0\x01\x05"
        graph = message(1, message(4, b"If") + message(2, b"y") + message(5, branch))
    return model(RELU).SerializeToString() + message(7, graph)


UNPAID = "Arena alloc failed"
"""What protobuf says where it is refused memory."""
STRUCTURES: dict[str, tuple[type[DeepChipError], Callable[[], onnx.ModelProto | bytes], str]] = {
    "nodes": (InvalidModelError, many_nodes, UNPAID),
    "constants": (InvalidModelError, many_constants, OVER),
    "branches": (InvalidModelError, deep, "not an ONNX file: "),
    "inputs of a node": (
        InvalidModelError,
        lambda: model(node("Sum", ["x"] * 60_000, ["y"])),
        OVER,
    ),
    "unknown operators": (
        UnsupportedError,
        lambda: model(
            *(node(f"Op{i}", ["x"], [f"v{i}"]) for i in range(9000)),
            node("Sum", [f"v{i}" for i in range(9000)], ["y"]),
        ),
        "9000 unsupported operators: Op0 (node 'v0'), Op1 (node 'v1'), ",
    ),
    "order": (
        InvalidModelError,
        lambda: model(node("Transpose", ["x"], ["y"], perm=list(range(200_000)))),
        "layer 'y': attribute 'order'",
    ),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_beyond_reason(tmp_path: Path, name: str) -> None:
    error, make, text = STRUCTURES[name]
    if text == UNPAID:
        needs_memory_limits()
    check_attack(error, text, saved(tmp_path, make()))


def test_a_wide_join_is_read(tmp_path: Path) -> None:
    """It took time by the square of its inputs, as the text of an error was made for each."""
    wide = model(node("Concat", ["x"] * 20_000, ["y"], axis=1))
    outcome = attacked(saved(tmp_path, wide))
    check_bounds(outcome, 0)
    assert outcome.kind == "result", outcome
