"""The process in which another runtime is measured; `measure.py` starts it and asks.

It uses one thread, and random inputs of the shapes that the file states.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats.errors import InputError, InvalidModelError, UnsupportedError
from ..runtime.memory import peak_resident
from .pipe import Answer, serve

Array = NDArray[Any]
Call = Callable[[], object]
LITERT = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
)
RUNTIMES = {".onnx": "ONNX Runtime", ".tflite": "LiteRT"}
"""By the suffix of a file."""


class _Peer:
    """Answers the questions, each a public method."""

    def __init__(self, path: str, batch: int) -> None:
        self._path = path
        self._batch = batch
        self._call: Call = lambda: None

    def load(self) -> Answer:
        """Load the file and call it once."""
        load = {".onnx": _onnx, ".tflite": _litert}[Path(self._path).suffix]
        name, self._call = load(self._path, self._batch)
        self._call()
        return {"runtime": name}

    def run(self, runs: int) -> Answer:
        """Call it so often, and return the seconds of each call."""
        seconds = []
        for _ in range(runs):
            begin = time.perf_counter()
            self._call()
            seconds.append(time.perf_counter() - begin)
        return {"seconds": seconds}

    def memory(self) -> Answer:
        """Return what the process takes."""
        return {"peak": peak_resident()}


def _onnx(path: str, batch: int) -> tuple[str, Call]:
    try:
        runtime: Any = import_module("onnxruntime")
    except ImportError:
        raise UnsupportedError("ONNX Runtime is not installed: pip install onnxruntime") from None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has types of its own for what is wrong with a file
        raise _refused(path, "ONNX Runtime", error) from None
    inputs = {
        port.name: _random(port.name, port.shape, batch, _ONNX_TYPES.get(port.type, port.type))
        for port in session.get_inputs()
    }
    return f"ONNX Runtime {runtime.__version__}", lambda: session.run(None, inputs)


def _first_of(packages: Sequence[tuple[str, str]]) -> tuple[Any, str]:
    for module, package in packages:
        with suppress(ImportError):
            return import_module(module), package
    raise UnsupportedError("LiteRT is not installed: pip install ai-edge-litert")


def _litert(path: str, batch: int) -> tuple[str, Call]:
    runtime, package = _first_of(LITERT)
    try:
        interpreter = runtime.Interpreter(model_path=path, num_threads=1)
        for port in interpreter.get_input_details():
            interpreter.resize_tensor_input(port["index"], [batch, *port["shape"][1:]])
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise _refused(path, "LiteRT", error) from None
    for port in interpreter.get_input_details():
        array = _random(port["name"], port["shape"].tolist(), batch, np.dtype(port["dtype"]).name)
        interpreter.set_tensor(port["index"], array)
    outputs = [port["index"] for port in interpreter.get_output_details()]

    def call() -> None:
        interpreter.invoke()
        for index in outputs:
            interpreter.get_tensor(index)

    return f"LiteRT {_version(package)}", call


_ONNX_TYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16",
    "tensor(uint8)": "uint8", "tensor(int8)": "int8", "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}  # fmt: skip


def _random(name: str, shape: Sequence[Any], batch: int, dtype: str) -> Array:
    if not shape or any(type(size) is not int or size < 1 for size in shape[1:]):
        raise UnsupportedError(
            f"input {name!r} has shape {shape}, expected all sizes but the batch"
        )
    if type(shape[0]) is int and shape[0] not in (batch, -1):
        raise InputError(
            f"input {name!r} takes {shape[0]} items at a time, not {batch}; see --batch"
        )
    if dtype not in _ONNX_TYPES.values():
        raise UnsupportedError(f"input {name!r} takes {dtype}, expected numbers")
    generator = np.random.default_rng(0)
    size = (batch, *shape[1:])
    if dtype.startswith("float"):
        return generator.random(size, np.float32).astype(dtype)
    return generator.integers(0, 100, size).astype(dtype)


def _refused(path: str, runtime: str, error: Exception) -> InvalidModelError:
    return InvalidModelError(
        f"{Path(path).name}: {runtime} does not load it: {' '.join(str(error).split())}"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def main(path: str, batch: str) -> None:
    """Answer on the standard output."""
    peer = _Peer(path, int(batch))
    serve({question.__name__: question for question in (peer.load, peer.run, peer.memory)})
