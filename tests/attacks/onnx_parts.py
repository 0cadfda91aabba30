"""What hostile ONNX files are put together from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import make_node as node

from tests.converter.onnx_models import make_model

RELU = node("Relu", ["x"], ["y"])
"""Of memory or of time, whichever is over first."""


def integers(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def model(*nodes: onnx.NodeProto, **constants: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """A model that reads items of three numbers."""
    return make_model(nodes, {"x": ["N", 3]}, constants=constants)


def added(*nodes: onnx.NodeProto, **constants: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """A model that adds the constant "c", which nodes compute, to its input."""
    return model(*nodes, node("Add", ["x", "c"], ["y"]), **constants)


def tensor(dims: Sequence[int], kind: int = TensorProto.FLOAT, **data: Any) -> onnx.ModelProto:
    """A model that adds a tensor that is stated as the file wants it."""
    stated = TensorProto(name="c", dims=dims, data_type=kind, **data)
    found = added()
    found.graph.initializer.append(stated)
    return found


def edited(edit: Callable[[onnx.ModelProto], None]) -> onnx.ModelProto:
    found = model(RELU)
    edit(found)
    return found


def length(value: int) -> bytes:
    """A number as protobuf's wire format has it: seven bits a byte, the least first."""
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + length(rest) if rest else bytes([low])


def message(field: int, content: bytes) -> bytes:
    return length(field << 3 | 2) + length(len(content)) + content


def saved(folder: Path, content: onnx.ModelProto | bytes) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path
