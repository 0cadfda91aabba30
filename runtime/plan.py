"""Plans a graph once: proves that it can run, and turns it into what runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, Protocol

from numpy.typing import NDArray

from deepchip.formats.attributes import ints
from deepchip.formats.check import check_graph
from deepchip.formats.errors import InputError, OutOfMemoryError, UnsupportedError
from deepchip.formats.graph import Graph, LevelWeights, Node
from deepchip.formats.jit import REMEDY, undivided
from deepchip.formats.memory import shortage

from .kernels.window import Window
from .steps import Steps, releases

BACKENDS = ("numba", "numpy")
SLICE_BYTES = 2**26
"""About how much the values of one slice of a batch may take together, as NumPy arrays."""
MAX_ITEM_BYTES = 2**30
"""A network whose values need more for one item is refused before anything is allocated."""
MAX_WORK = 2**42
"""Elements that kernels may go over for one item: minutes; the largest networks take seconds."""

Array = NDArray[Any]


class Plan(Protocol):
    """A graph ready to run: `Steps` in NumPy, or a compiled `Program`."""

    @property
    def graph(self) -> Graph:
        """What it computes."""

    @property
    def slice(self) -> int:
        """How many items are run together, so that memory does not grow with the batch."""

    def run(
        self, inputs: Mapping[str, Array], wanted: Sequence[str], threads: int = 1
    ) -> dict[str, Array]:
        """Return the `wanted` values for a batch of any size.

        Parameters
        ----------
        inputs : arrays [N, ...] of the graph's inputs, float32 and C-contiguous
        wanted : outputs of the graph, or values that the plan was told to keep
        threads : how many share the work
        """

    def close(self) -> None:
        """End threads that wait for work."""


def make_plan(graph: Graph, backend: str, keep: Sequence[str] = ()) -> Plan:
    """Turn `graph` into what runs it.

    Parameters
    ----------
    backend : "numba" or "numpy"
    keep : values, besides the outputs, that a run gives back (calibration reads them)

    Raises
    ------
    InputError
        Unknown backend.
    InvalidModelError
        The graph contradicts itself.
    UnsupportedError
        Its values are too large, or Numba is missing.
    OutOfMemoryError
        There is not enough to plan or compile it.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend is {backend!r}, expected one of {', '.join(BACKENDS)}")
    check_graph(graph)
    work = sum(_work(graph, node) for node in graph.nodes)
    if work > MAX_WORK:
        raise UnsupportedError(f"one item takes {work} additions, at most {MAX_WORK}")
    need = peak_bytes(graph) + max(map(partial(_padded_bytes, graph), graph.nodes), default=0)
    _check_bytes(need)
    try:
        if backend == "numpy":
            return Steps.of(graph, keep, max(1, SLICE_BYTES // max(1, need)))
        return _compiled(graph, keep)
    except OutOfMemoryError:
        raise
    except MemoryError:
        raise shortage(need + _weights_bytes(graph), "planning the network", REMEDY) from None


def _compiled(graph: Graph, keep: Sequence[str]) -> Plan:
    try:
        with undivided():
            from .assemble import assemble
    except ImportError as error:
        raise UnsupportedError(
            f"backend 'numba' needs Numba, which does not import here ({error}); "
            "backend='numpy' does without"
        ) from None
    program = assemble(graph, keep)
    _check_bytes(program.arena_bytes())
    program.compile()
    return program


def _check_bytes(need: int) -> None:
    if need > MAX_ITEM_BYTES:
        raise UnsupportedError(f"values of one item take {need} bytes, at most {MAX_ITEM_BYTES}")


def peak_bytes(graph: Graph) -> int:
    """Return the most bytes that values of one item take at a time."""
    sizes = {name: value.size * value.dtype.itemsize for name, value in graph.values.items()}
    live = sum(sizes[name] for name in graph.inputs)
    most = live
    for node, released in zip(graph.nodes, releases(graph, ()), strict=True):
        live += sizes[node.output]
        most = max(most, live)
        live -= sum(sizes[name] for name in released)
    return most


def _work(graph: Graph, node: Node) -> int:
    """Return how many elements a convolution, pooling or product goes over."""
    output = graph.values[node.output]
    if "kernel" in node.attributes:
        return prod(ints(node, "kernel")) * output.size
    weight = node.tensors.get("weight")
    if weight is None:
        return 0
    count = weight.nonzeros if isinstance(weight, LevelWeights) else weight.size
    return count * prod(output.shape[1:])


def _weights_bytes(graph: Graph) -> int:
    """Return the bytes of all weights as float32: about what planning works on."""
    shapes = (tensor.shape for node in graph.nodes for tensor in node.tensors.values())
    return 4 * sum(map(prod, shapes))


def call_bytes(plan: Plan, batch: int) -> int:
    """Return about what a call with so many items takes: the outputs, and the values of a slice."""
    values = plan.graph.values
    outputs = sum(values[n].size * values[n].dtype.itemsize for n in plan.graph.outputs)
    return batch * outputs + min(batch, plan.slice) * peak_bytes(plan.graph)


def _padded_bytes(graph: Graph, node: Node) -> int:
    """Return the bytes of the padded plane that a convolution or pooling works on."""
    if "strides" not in node.attributes:
        return 0
    source, output = graph.values[node.inputs[0]], graph.values[node.output]
    kernel = (
        ints(node, "kernel") if "kernel" in node.attributes else node.tensors["weight"].shape[2:]
    )
    padded = Window.of(node, kernel, output.shape).padded(*source.shape[1:])
    return source.shape[0] * prod(padded) * 4
