"""ONNX files that contradict themselves, are damaged, or want to read what is not theirs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node as node

from deepchip.formats.errors import DeepChipError, InputError, InvalidModelError, UnsupportedError
from tests.converter.onnx_models import make_model

from .exports import MEMORY, attacked_here, check_attack
from .harness import check_bounds, opened_by
from .onnx_parts import edited, integers, saved, tensor

# ---- Tensors that are not what they say

TENSORS: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "a terabyte": (lambda: tensor([2**38], raw_data=b"1234"), "cannot reshape array of size 1"),
    "more than 64 bits": (lambda: tensor([2**32, 2**32], raw_data=b""), "cannot reshape array"),
    "more, times zero": (lambda: tensor([2**62, 2**62, 0], raw_data=b""), "cannot reshape array"),
    "a size below zero": (lambda: tensor([-1], raw_data=bytes(12)), "damaged: has shape [-1]"),
    "half an element": (lambda: tensor([1], raw_data=b"12345"), "must be a multiple of element"),
    "too few": (lambda: tensor([3], raw_data=bytes(8)), "cannot reshape array of size 2"),
    "too many": (lambda: tensor([3], raw_data=bytes(16)), "cannot reshape array of size 4"),
    "an unknown type": (lambda: tensor([3], 99, raw_data=bytes(12)), "damaged: 99"),
    "no type": (lambda: tensor([3], 0, raw_data=bytes(12)), "damaged: "),
    "text": (lambda: tensor([1], TensorProto.STRING, string_data=[b"\xff"]), "damaged: "),
    "4 bits": (lambda: tensor([2**40], TensorProto.INT4, raw_data=b"12"), "damaged: "),
    "100 dimensions": (lambda: tensor([1] * 100, raw_data=b"1234"), "damaged: "),
    "a million dimensions": (lambda: tensor([1] * 10**6, raw_data=b"1234"), "damaged: "),
    "two contents": (
        lambda: tensor([3], raw_data=bytes(12), float_data=[1, 2, 3]),
        "damaged: states its elements twice",
    ),
    "a segment": (
        lambda: tensor([3], float_data=[1, 2, 3], segment=TensorProto.Segment(begin=0, end=2**60)),
        "damaged: ",
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_are_not_what_they_say(tmp_path: Path, name: str) -> None:
    make, text = TENSORS[name]
    outcome = attacked_here(saved(tmp_path, make()))
    assert outcome.kind == "refused" and outcome.error == "InvalidModelError", outcome
    assert outcome.text.startswith("net.onnx: layer 'y': tensor 'c': "), outcome
    assert text in outcome.text
    check_bounds(outcome, 2**21)


# ---- Graphs that contradict themselves


def with_second_initializer(found: onnx.ModelProto) -> None:
    for value in (1, 2):
        found.graph.initializer.append(numpy_helper.from_array(np.float32([value]), "c"))


def with_second_opset(found: onnx.ModelProto) -> None:
    found.opset_import.append(helper.make_opsetid("ai.onnx", 9))


def with_second_attribute(found: onnx.ModelProto) -> None:
    found.graph.node[0].CopyFrom(node("LeakyRelu", ["x"], ["y"], alpha=0.1))
    found.graph.node[0].attribute.append(helper.make_attribute("alpha", 0.2))


def with_a_lie_about_an_attribute(found: onnx.ModelProto) -> None:
    found.graph.node[0].CopyFrom(node("LeakyRelu", ["x"], ["y"], alpha=0.1))
    found.graph.node[0].attribute[0].type = onnx.AttributeProto.INTS


def with_a_second_input(found: onnx.ModelProto) -> None:
    found.graph.input.append(found.graph.input[0])


def with_a_circle(found: onnx.ModelProto) -> None:
    del found.graph.node[:]
    found.graph.node.extend([node("Add", ["x", "b"], ["y"]), node("Relu", ["y"], ["b"])])


def with_control_characters(found: onnx.ModelProto) -> None:
    found.graph.node[0].name = "\x1b]0;owned\x07\n"


def with_control_characters_in_an_operator(found: onnx.ModelProto) -> None:
    found.graph.node[0].op_type = "\x1b[2J\n"


def with_a_long_name(found: onnx.ModelProto) -> None:
    found.graph.node[0].name = "a" * 10**6


def with_a_future_opset(found: onnx.ModelProto) -> None:
    found.opset_import[0].version = 2**62


CONTRADICTIONS: dict[Callable[[onnx.ModelProto], None], tuple[type[DeepChipError], str]] = {
    with_second_initializer: (InvalidModelError, "a second initializer 'c'"),
    with_second_opset: (InvalidModelError, "is of opset 17 and 9, expected one"),
    with_second_attribute: (InvalidModelError, "'LeakyRelu': a second attribute 'alpha'"),
    with_a_lie_about_an_attribute: (InvalidModelError, "attribute 'alpha' is of another type"),
    with_a_second_input: (InvalidModelError, "inputs ('x', 'x')"),
    with_a_circle: (InvalidModelError, "layer 'y': Add reads 'b', which no node before it gives"),
    with_control_characters: (InvalidModelError, r"a layer is named '\x1b]0;owned\x07\n'"),
    with_control_characters_in_an_operator: (UnsupportedError, r"operator: \x1b[2J\n (node 'y')"),
    with_a_long_name: (InvalidModelError, "a layer is named 'aaaa"),
    with_a_future_opset: (UnsupportedError, "is of opset 4611686018427387904"),
}


@pytest.mark.parametrize("edit", CONTRADICTIONS, ids=lambda edit: edit.__name__)
def test_graphs_that_contradict_themselves(
    tmp_path: Path, edit: Callable[[onnx.ModelProto], None]
) -> None:
    error, text = CONTRADICTIONS[edit]
    outcome = attacked_here(saved(tmp_path, edited(edit)))
    check_bounds(outcome, 2**21)
    assert (outcome.kind, outcome.error) == ("refused", error.__name__), outcome
    assert text in outcome.text and outcome.text.isprintable() and len(outcome.text) <= 2000


# ---- Data beside the model


def external(location: str, **entries: int) -> onnx.ModelProto:
    """A model whose tensor of three numbers is said to lie in another file."""
    found = tensor([3], data_location=TensorProto.EXTERNAL)
    stated = {"location": location, **entries}
    for key, value in stated.items():
        found.graph.initializer[0].external_data.add(key=key, value=str(value))
    return found


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("../secret.bin", "lie outside the model's folder"),
        ("{secret}", "lie outside the model's folder"),
        ("link.bin", "lie outside the model's folder"),
        ("linked/secret.bin", "lie outside the model's folder"),
        ("./a/../../secret.bin", "lie outside the model's folder"),
        ("", "lie outside the model's folder"),
        ("pipe", "are missing, expected beside the model"),
        (".", "are missing, expected beside the model"),
        ("a\0b", "external data are not well formed"),
    ],
)
def test_data_of_other_folders_are_not_opened(tmp_path: Path, location: str, text: str) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(12))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    path = saved(folder, external(location.format(secret=secret)))
    with opened_by(secret) as opened:
        check_attack(InvalidModelError, text, path)
        assert opened() == []


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({"offset": 2**62}, "the file has"),
        ({"offset": -8}, "the file has 20 there"),
        ({"length": 13}, "at 0 of 13 bytes: the file has 12 there"),
        ({"offset": 1, "length": 12}, "at 1 of 12 bytes: the file has 11 there"),
        ({"length": 8}, "cannot reshape array of size 2 into shape (3,)"),
        ({"offset": "9" * 5000}, "external data"),
    ],
)
def test_data_beyond_their_file(tmp_path: Path, entries: dict[str, Any], text: str) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(12))
    check_attack(InvalidModelError, text, saved(tmp_path, external("data.bin", **entries)))


def test_a_file_of_holes_is_not_paid_for(tmp_path: Path) -> None:
    """What takes no place on the disk must take none in memory."""
    with (tmp_path / "data.bin").open("wb") as file:
        file.truncate(2**29)
    found = external("data.bin")
    found.graph.initializer[0].dims[:] = [2**27]
    check_attack(InvalidModelError, MEMORY, saved(tmp_path, found))
    with (tmp_path / "net.onnx").open("wb") as file:
        file.truncate(2**29)
    check_attack(InvalidModelError, MEMORY, tmp_path / "net.onnx")


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.onnx")
    check_attack(InputError, "is no regular file", tmp_path / "net.onnx")


# ---- Damage


def small() -> bytes:
    """A model with most kinds of content: attributes, constants, shapes that are computed."""
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        node("Clip", ["a", "low"], ["b"]),
        node("Shape", ["b"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"]),
        node("Concat", ["n", "rest"], ["target"], axis=0),
        node("Reshape", ["b", "target"], ["y"]),
    ]
    constants = {
        "w": np.ones((2, 1, 3, 3), np.float32),
        "low": np.array(0, np.float32),
        "zero": integers(0),
        "rest": integers(-1),
    }
    return make_model(nodes, {"x": ["N", 1, 4, 4]}, constants=constants).SerializeToString()


def check_here(path: Path, data: bytes | bytearray) -> str:
    path.write_bytes(data)
    outcome = attacked_here(path)
    check_bounds(outcome, 0)
    return outcome.kind


def test_truncated_at_every_byte(tmp_path: Path) -> None:
    data = small()
    path = tmp_path / "net.onnx"
    assert check_here(path, data) == "result"
    assert {check_here(path, data[:size]) for size in range(len(data))} == {"refused"}


def flipped(data: bytes, bit: int) -> bytearray:
    found = bytearray(data)
    found[bit // 8] ^= 1 << bit % 8
    return found


@pytest.mark.parametrize("step", [41, pytest.param(1, marks=pytest.mark.slow, id="every bit")])
def test_flipped_bits(tmp_path: Path, step: int) -> None:
    data = small()
    path = tmp_path / "net.onnx"
    kinds = [check_here(path, flipped(data, bit)) for bit in range(0, 8 * len(data), step)]
    assert kinds.count("refused") > len(kinds) / 4
