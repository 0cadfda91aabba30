"""What attacks by exported networks call, and what has to come of them."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from deepchip.converter.readers.kinds import reader_of
from deepchip.converter.readers.read import read_network
from deepchip.formats.errors import DeepChipError
from tests.checks import needs_memory_limits

from .child import Outcome
from .harness import attack, check_refused
from .targets import digest

OVER = "than its size accounts for"
"""Of memory or of time, whichever is over first."""
MEMORY = f"reading it takes more memory {OVER}"
Files = str | tuple[str, str]
"""A network, or one and its description."""


def read(files: Files) -> str:
    """Read a network as `deepchip.convert` does."""
    source, description = (files, None) if isinstance(files, str) else files
    return digest(read_network(source, description))


def read_here(path: str) -> str:
    """Do so in this process, without its limits: what is refused is refused by our own checks."""
    return digest(reader_of(path)())


def attacked(path: Path, description: Path | None = None) -> Outcome:
    """Read a file that may do anything but harm, and return what came of it."""
    files: Files = str(path) if description is None else (str(path), str(description))
    outcome = attack("tests.attacks.exports:read", files)
    # The process that reads is started by us; what it opens is watched where it matters.
    ours = f"subprocess.Popen {sys.executable}"
    return replace(outcome, reached=tuple(name for name in outcome.reached if name != ours))


def attacked_here(path: Path) -> Outcome:
    """Return what came of reading a file in the process that measures."""
    outcome = attack("tests.attacks.exports:read_here", str(path), _harmless())
    assert outcome.text.isprintable(), outcome
    return outcome


@cache
def _harmless() -> str:
    """Return the path of a model for which everything is imported that others need."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    nodes = [
        helper.make_node("Constant", [], ["a"], value_floats=[1.0]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Add", ["x", "b"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in "xy"]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, f"{folder}/harmless.onnx")
    return f"{folder}/harmless.onnx"


def check_attack(
    error: type[DeepChipError], text: str, path: Path, description: Path | None = None
) -> None:
    """Assert that a file is refused in bounded time, with an error that names it and holds text."""
    if OVER in text:
        needs_memory_limits()
    outcome = attacked(path, description)
    check_refused(outcome, error, text)
    assert outcome.text.startswith(path.name), outcome
