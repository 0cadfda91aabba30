"""Reads ONNX files: convolutional networks in float32, with or without quantization nodes."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from types import ModuleType

from deepchip.formats.errors import InputError, UnsupportedError, located
from deepchip.formats.graph import Graph


def read_onnx(path: str | os.PathLike[str]) -> Graph:
    """Read an ONNX file as a graph of float32 tensors; needs the `onnx` package.

    Layers take the names of their ONNX nodes (a node without a name: that of its output), values
    those of the ONNX values. Axis 0 of every value is taken for the batch, also where the file
    fixes its size. What can be computed from constants alone is; QuantizeLinear becomes Quantize,
    and what reads its DequantizeLinear reads the codes. Operators: https://onnx.ai/onnx/operators.

    Raises
    ------
    InputError
        There is no such file, or it cannot be read.
    InvalidModelError
        It is no ONNX file, is damaged, contradicts itself or holds NaN or infinite weights.
    UnsupportedError
        It needs what DeepChip does not do; operators that are not supported are named all at once.
        Also if the `onnx` package is missing.
    """
    graph = importer()
    path = Path(path)
    with located(path.name):
        try:
            return graph.import_model(graph.parse(path.read_bytes()), path)
        except FileNotFoundError:
            raise InputError("no such file") from None
        except OSError as error:  # of data that lie beside the model, too
            raise InputError(f"cannot be read: {error.strerror}") from error


def importer() -> ModuleType:
    """Import what reads ONNX, or raise UnsupportedError if the `onnx` package is missing."""
    try:
        return import_module(".graph", __package__)
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise UnsupportedError(
            "reading ONNX needs the extra: pip install 'deepchip[convert]'"
        ) from error
