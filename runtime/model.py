"""What an application holds: a network that was loaded and planned, ready to be called."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepchip.formats.errors import InputError, OutOfMemoryError, located
from deepchip.formats.graph import Graph
from deepchip.formats.jit import REMEDY
from deepchip.formats.keys import Key
from deepchip.formats.memory import shortage
from deepchip.formats.model_file import Source, model_bytes, read_model

from .inputs import FEWER, batch_of, check_inputs
from .plan import Plan, call_bytes, make_plan

MAX_THREADS = 256


@dataclass(frozen=True)
class Port:
    """An input or output of a model: `shape` starts with None, the batch."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


class Model:
    """A network ready to run. Calls from several threads at a time are safe.

    Its threads end and its memory goes when it is dropped, or with `close`, also at the end of a
    `with` block.

    Parameters
    ----------
    graph : the network
    backend : "numba", compiled kernels, or "numpy", the readable reference, which needs no Numba
    threads : how many share the work of a call

    Attributes
    ----------
    inputs, outputs : name, shape and dtype of each, a `Port`

    Examples
    --------
    >>> model = deepchip.load("lenet5.dchip")                                   # doctest: +SKIP
    >>> model(images).shape                                                     # doctest: +SKIP
    (1000, 10)
    """

    def __init__(self, graph: Graph, *, backend: str = "numba", threads: int = 1) -> None:
        if type(threads) is not int or not 1 <= threads <= MAX_THREADS:
            raise InputError(f"threads is {threads!r}, expected an integer from 1 to {MAX_THREADS}")
        self._plan: Plan | None = make_plan(graph, backend)
        self._name = graph.name
        self.backend = backend
        self.threads = threads
        self.inputs = tuple(_port(graph, name) for name in graph.inputs)
        self.outputs = tuple(_port(graph, name) for name in graph.outputs)

    def __repr__(self) -> str:
        ports = [
            ", ".join(f"{port.name} {batch_of(port.shape[1:])}" for port in side)
            for side in (self.inputs, self.outputs)
        ]
        state = "closed" if self._plan is None else self.backend
        return f"<deepchip.Model {self._name}: {' -> '.join(ports)}, {state}>"

    @property
    def plan(self) -> Plan:
        """What runs it. Raises InputError once the model is closed."""
        plan = self._plan  # read once: another thread may close
        if plan is None:
            raise InputError(f"model {self._name!r} is closed; load it again")
        return plan

    @property
    def graph(self) -> Graph:
        """The network. Raises InputError once the model is closed."""
        return self.plan.graph

    def close(self) -> None:
        """End the threads and let the memory go. Later calls raise InputError; closing does not.

        A call that another thread is in the middle of goes on and gives its results; what it needs
        goes with it.
        """
        plan, self._plan = self._plan, None
        if plan is not None:
            plan.close()

    def __enter__(self) -> Model:
        _ = self.plan
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the bytes of a model file, and plan again where it arrives."""
        return _unpickle, (model_bytes(self.graph), self.backend, self.threads)

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
            Another shape or type, a model of several inputs or outputs, or one that is closed.
        OutOfMemoryError
            There is not enough for so many items; the model goes on working.
        """
        graph = self.graph
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise InputError(
                f"the model has inputs {graph.inputs} and outputs {graph.outputs}; "
                "call run() with arrays by name"
            )
        return self.run({graph.inputs[0]: x})[graph.outputs[0]]

    def run(self, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float32]]:
        """Run the model on arrays by name, and return its outputs by name. Errors as for a call."""
        plan = self.plan
        arrays = check_inputs(plan.graph, inputs)
        try:
            return plan.run(arrays, plan.graph.outputs, self.threads)
        except OutOfMemoryError:
            raise
        except MemoryError:
            batch = len(next(iter(arrays.values())))
            raise shortage(call_bytes(plan, batch), f"a call of {batch} items", FEWER) from None


def _port(graph: Graph, name: str) -> Port:
    value = graph.values[name]
    return Port(name, (None, *value.shape), value.dtype)


def load(
    source: Source,
    *,
    backend: str = "numba",
    threads: int = 1,
    verify: bool = True,
    key: Key | None = None,
) -> Model:
    """Load a model file, verify it and plan it.

    Parameters
    ----------
    source : path, the file's bytes, or a binary file object
    backend, threads : see `Model`
    verify : whether every stream is compared with its SHA-256; all bounds are checked without, too
    key : public Ed25519 key in PEM (path or bytes) that the file has to be signed with

    Raises
    ------
    InvalidModelError
        The file is damaged; the text names the layer.
    SignatureError
        It is not signed with the demanded key.
    UnsupportedError
        The file asks for what this release does not do.
    OutOfMemoryError
        There is not enough to load it.
    OSError
        It cannot be read.
    """
    place = Path(source).name if isinstance(source, (str, os.PathLike)) else "model"
    with located(place):
        try:
            graph = read_model(source, compiled=backend == "numba", verify=verify, key=key)
        except OutOfMemoryError:
            raise
        except MemoryError:
            raise OutOfMemoryError(f"out of memory while it was read; {REMEDY}") from None
        return Model(graph, backend=backend, threads=threads)


def _unpickle(data: bytes, backend: str, threads: int) -> Model:
    return load(data, backend=backend, threads=threads)
