"""Steps: a graph as one NumPy function for each node, run one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.errors import located
from deepchip.formats.graph import Graph

from .lower import Run, Task, lower

Array = NDArray[Any]


@dataclass(frozen=True)
class Step:
    """One node.

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
class Steps:
    """A graph ready to run.

    Attributes
    ----------
    slice : how many items are run at a time, so that memory does not grow with the batch
    """

    graph: Graph
    steps: tuple[Step, ...]
    slice: int

    @classmethod
    def of(cls, graph: Graph, keep: Sequence[str], size: int) -> Steps:
        """Return the steps of a graph that gives its outputs and the values to `keep`."""
        steps = []
        for node, released in zip(graph.nodes, releases(graph, keep), strict=True):
            inputs = tuple(graph.values[name] for name in node.inputs)
            with located(f"layer {node.name!r}"):
                run = lower(Task(node, inputs, graph.values[node.output]))
            steps.append(Step(node.name, node.inputs, node.output, run, released))
        return cls(graph, tuple(steps), size)

    def run(
        self, inputs: Mapping[str, Array], wanted: Sequence[str], threads: int = 1
    ) -> dict[str, Array]:
        """Do what `Plan.run` says; `threads` slices of the batch run at a time.

        The threads end with the call, so that a fork between calls finds none.
        """
        batch = len(next(iter(inputs.values())))
        values = self.graph.values
        results = {
            name: np.empty((batch, *values[name].shape), values[name].dtype) for name in wanted
        }
        size = max(1, min(self.slice, -(-batch // threads)))

        def run(start: int) -> None:
            items = slice(start, min(start + size, batch))
            found = self.run_slice({name: array[items] for name, array in inputs.items()})
            for name, result in results.items():
                result[items] = found[name]

        starts = range(0, batch, size)
        if threads > 1 and len(starts) > 1:
            with suppress(RuntimeError), ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, starts))
                return results
        for start in starts:  # also where no thread can be started
            run(start)
        return results

    def close(self) -> None:
        """No threads are kept."""

    def run_slice(self, values: dict[str, Array]) -> dict[str, Array]:
        """Run every step on arrays small enough to be held together; return what is left."""
        with np.errstate(all="ignore"):  # infinity and NaN are results like any, as when compiled
            for step in self.steps:
                values[step.output] = step.run([values[name] for name in step.inputs])
                for name in step.releases:
                    del values[name]
        return values


def releases(graph: Graph, keep: Sequence[str]) -> list[tuple[str, ...]]:
    """Return, for each node, the values that are read there for the last time."""
    seen = {*graph.outputs, *keep}
    found: list[tuple[str, ...]] = []
    for node in reversed(graph.nodes):
        last = dict.fromkeys(name for name in (*node.inputs, node.output) if name not in seen)
        seen.update(last)
        found.append(tuple(last))
    return found[::-1]
