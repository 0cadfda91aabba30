"""Plans a graph once: a function for every node, and when each value is last needed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import partial
from math import prod

from deepchip.formats.check import check_graph
from deepchip.formats.errors import InputError, UnsupportedError, located
from deepchip.formats.graph import Graph, Node
from deepchip.formats.operators import ints

from .kernels.window import Window
from .lower import Run, Task, lower

BACKENDS = ("numba", "numpy")
SLICE_BYTES = 2**26
"""About how much the values of one slice of a batch may take together."""
MAX_ITEM_BYTES = 2**30
"""A network whose values need more for one item is refused before anything is allocated."""


@dataclass(frozen=True)
class Step:
    """One node of the plan.

    Attributes
    ----------
    run : from the arrays of `inputs` to the array of `output`
    releases : values that no later step reads
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    run: Run
    releases: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A graph ready to run.

    Attributes
    ----------
    slice : how many items are run at a time, so that memory does not grow with the batch
    """

    graph: Graph
    steps: tuple[Step, ...]
    slice: int


def make_plan(graph: Graph, backend: str, keep: tuple[str, ...] = ()) -> Plan:
    """Choose a function for every node of `graph`.

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
        Its values are too large.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend is {backend!r}, expected one of {', '.join(BACKENDS)}")
    check_graph(graph)
    need = peak_bytes(graph) + max(map(partial(_padded_bytes, graph), graph.nodes), default=0)
    if need > MAX_ITEM_BYTES:
        raise UnsupportedError(f"values of one item take {need} bytes, at most {MAX_ITEM_BYTES}")
    package = "plain" if backend == "numpy" else "compiled"
    try:
        kernels = importlib.import_module(f"deepchip.runtime.kernels.{package}")
    except ImportError as error:
        raise UnsupportedError(
            f"backend 'numba' needs Numba, which does not import here ({error}); "
            "backend='numpy' does without"
        ) from None
    steps = []
    for node, releases in zip(graph.nodes, _releases(graph, keep), strict=True):
        inputs = tuple(graph.values[name] for name in node.inputs)
        with located(f"layer {node.name!r}"):
            run = lower(Task(node, inputs, graph.values[node.output], kernels))
        steps.append(Step(node.name, node.inputs, node.output, run, releases))
    return Plan(graph, tuple(steps), max(1, SLICE_BYTES // max(1, need)))


def peak_bytes(graph: Graph) -> int:
    """Return the most bytes that values of one item take at a time."""
    sizes = {name: value.size * value.dtype.itemsize for name, value in graph.values.items()}
    live = sum(sizes[name] for name in graph.inputs)
    most = live
    for node, releases in zip(graph.nodes, _releases(graph, ()), strict=True):
        live += sizes[node.output]
        most = max(most, live)
        live -= sum(sizes[name] for name in releases)
    return most


def _padded_bytes(graph: Graph, node: Node) -> int:
    """Return the bytes of the padded plane that a convolution or pooling works on."""
    if "pads" not in node.attributes:
        return 0
    source, output = graph.values[node.inputs[0]], graph.values[node.output]
    kernel = (
        ints(node, "kernel") if "kernel" in node.attributes else node.tensors["weight"].shape[2:]
    )
    padded = Window.of(node, kernel, output.shape).padded(*source.shape[1:])
    return source.shape[0] * prod(padded) * 4


def _releases(graph: Graph, keep: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return, for each node, the values that are read there for the last time."""
    seen = {*graph.outputs, *keep}
    releases: list[tuple[str, ...]] = []
    for node in reversed(graph.nodes):
        last = dict.fromkeys(name for name in (*node.inputs, node.output) if name not in seen)
        seen.update(last)
        releases.append(tuple(last))
    return releases[::-1]
