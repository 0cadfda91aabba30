"""What an application holds: a network that was loaded and planned, ready to be called."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepchip.formats.errors import InputError, located
from deepchip.formats.graph import Graph, Shape
from deepchip.formats.model_file import Source, model_bytes, read_model

from .plan import make_plan

MAX_THREADS = 256


@dataclass(frozen=True)
class Port:
    """An input or output of a model: `shape` starts with None, the batch."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


class Model:
    """A network ready to run. Calls from several threads at a time are safe.

    Parameters
    ----------
    graph : the network
    backend : "numba", compiled kernels, or "numpy", the readable reference, which needs no Numba
    threads : how many slices of a batch are computed at a time

    Examples
    --------
    >>> model = deepchip.load("lenet5.dchip")                                   # doctest: +SKIP
    >>> model(images).shape                                                     # doctest: +SKIP
    (1000, 10)
    """

    def __init__(self, graph: Graph, *, backend: str = "numba", threads: int = 1) -> None:
        if type(threads) is not int or not 1 <= threads <= MAX_THREADS:
            raise InputError(f"threads is {threads!r}, expected an integer from 1 to {MAX_THREADS}")
        self.graph = graph
        self.backend = backend
        self.threads = threads
        self.plan = make_plan(graph, backend)

    def __repr__(self) -> str:
        ports = [
            ", ".join(f"{port.name} {_batch(port.shape[1:])}" for port in side)
            for side in (self.inputs, self.outputs)
        ]
        return f"<deepchip.Model {self.graph.name}: {' -> '.join(ports)}, {self.backend}>"

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Name, shape and dtype of every input."""
        return tuple(self._port(name) for name in self.graph.inputs)

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Name, shape and dtype of every output."""
        return tuple(self._port(name) for name in self.graph.outputs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the bytes of a model file, and plan again where it arrives."""
        return _unpickle, (model_bytes(self.graph), self.backend, self.threads)

    def _port(self, name: str) -> Port:
        value = self.graph.values[name]
        return Port(name, (None, *value.shape), value.dtype)

    def __call__(self, x: ArrayLike) -> NDArray[np.float32]:
        """Run a model of one input and one output.

        Parameters
        ----------
        x : floating-point array [N, ...] of the input's shape, any batch size N

        Returns
        -------
        float32 array [N, ...] of the output's shape

        Raises
        ------
        InputError
            Another shape or type, or a model of several inputs or outputs.
        """
        if len(self.graph.inputs) != 1 or len(self.graph.outputs) != 1:
            raise InputError(
                f"the model has inputs {self.graph.inputs} and outputs {self.graph.outputs}; "
                "call run() with arrays by name"
            )
        return self.run({self.graph.inputs[0]: x})[self.graph.outputs[0]]

    def run(self, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float32]]:
        """Run the model on arrays by name, and return its outputs by name. Errors as for a call."""
        arrays = check_inputs(self.graph, inputs)
        return self.plan.run(arrays, self.graph.outputs, self.threads)


def load(source: Source, *, backend: str = "numba", threads: int = 1) -> Model:
    """Load a model file, verify it and plan it.

    Parameters
    ----------
    source : path, the file's bytes, or a binary file object
    backend, threads : see `Model`

    Raises
    ------
    InvalidModelError
        The file is damaged; the text names the layer.
    UnsupportedError
        The file asks for what this release does not do.
    OSError
        It cannot be read.
    """
    place = Path(source).name if isinstance(source, (str, os.PathLike)) else "model"
    with located(place):
        graph = read_model(source, compiled=backend == "numba")
        return Model(graph, backend=backend, threads=threads)


def _unpickle(data: bytes, backend: str, threads: int) -> Model:
    return load(data, backend=backend, threads=threads)


def check_inputs(graph: Graph, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float32]]:
    """Return the inputs as C-contiguous float32 arrays of one batch size, or raise InputError."""
    if set(inputs) != set(graph.inputs):
        raise InputError(f"inputs {sorted(inputs)} were given, expected {sorted(graph.inputs)}")
    arrays = {name: _as_float32(name, inputs[name], graph.values[name].shape) for name in inputs}
    batches = {len(array) for array in arrays.values()}
    if len(batches) > 1:
        raise InputError(f"inputs have batches of {sorted(batches)} items, expected one size")
    return arrays


def _as_float32(name: str, given: ArrayLike, shape: Shape) -> NDArray[np.float32]:
    array = np.asarray(given)
    if array.dtype.kind != "f":
        raise InputError(
            f"input {name!r} has dtype {array.dtype}, expected float32, scaled as the network was "
            "trained (for pixels often x.astype('float32') / 255)"
        )
    if array.shape[1:] != shape or array.ndim == 0:
        raise InputError(
            f"input {name!r} has shape {array.shape}, expected {_batch(shape)}: "
            + ("add a batch axis, x[None]" if array.shape == shape else "N is the batch")
        )
    if array.dtype == np.float32 and array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.require(array, np.float32, ["C", "ALIGNED"])


def _batch(shape: Sequence[int | None]) -> str:
    return f"({', '.join(['N', *map(str, shape)])})"
