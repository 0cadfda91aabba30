"""A process that may die: runs random networks in guarded memory, and compares the backends.

    python -m tests.safety.child LOG EDGE random SEED COUNT | extremes | operators | files FOLDER

LOG tells what ran last; when all is well, the last line printed is JSON of what was done.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import sys
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from numpy.typing import NDArray

from deepchip.formats.graph import Graph, LevelWeights
from deepchip.formats.model_file import read_model
from deepchip.runtime.plan import make_plan
from tests.runtime.one_node import check_same_bits, one_node
from tests.runtime.test_assemble import FORM, OPERATORS, PAIRS

from .extremes import EXTREMES
from .guard import Guard
from .networks import Case, cases
from .pages import Edge

WIDTH = 200
"""Bytes of the line of the log that tells the operation."""


class Log:
    """A file that tells what runs, whatever happens next."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def network(self, text: str) -> None:
        """Tell which network runs."""
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, b" " * WIDTH + b"\n" + text.encode(), 0)

    def operation(self, text: str) -> None:
        """Tell which of its operations runs."""
        os.pwrite(self._file, text.encode()[:WIDTH].ljust(WIDTH), 0)


def describe(graph: Graph) -> str:
    """Return a line for each node."""
    lines = [f"{name} {graph.values[name].shape}" for name in graph.inputs]
    for node in graph.nodes:
        output = graph.values[node.output]
        tensors = {name: tensor.shape for name, tensor in node.tensors.items()}
        if "weight" in node.tensors:
            weight = node.tensors["weight"]
            tensors["levels"] = getattr(weight, "levels", np.zeros(0)).shape
        lines.append(
            f"{node.name} = {node.op}{node.inputs} {dict(node.attributes)} {tensors} -> "
            f"{output.shape} {output.quantization or ''}"
        )
    return "\n".join(lines)


def run(
    guard: Guard, graph: Graph, inputs: Mapping[str, NDArray[np.float32]], threads: int
) -> dict[str, NDArray[Any]]:
    """Return the outputs of the compiled backend, computed in guarded memory."""
    with guard.installed():
        plan = make_plan(graph, "numba")
        held = {name: guard.constant(array) for name, array in inputs.items()}
        return plan.run(held, graph.outputs, threads)


def compare(guard: Guard, log: Log, case: Case, name: str = "random") -> None:
    """Run a network in guarded memory, and expect the bits of the plain backend."""
    graph, random = case.graph, np.random.default_rng(case.seed)
    log.network(f"{name}: batch {case.batch}, threads {case.threads}\n{describe(graph)}")
    inputs = {
        name: 2 * random.standard_normal((case.batch, *graph.values[name].shape), np.float32)
        for name in graph.inputs
    }
    expected = make_plan(graph, "numpy").run(inputs, graph.outputs)
    found = run(guard, graph, inputs, case.threads)
    for name in graph.outputs:
        check_same_bits(found[name], expected[name])


def random_networks(guard: Guard, log: Log, start: str, count: str) -> int:
    """Run `count` random networks, and return how many there were."""
    done = 0

    @seed(int(start))
    @settings(
        max_examples=int(count), database=None, deadline=None, print_blob=False,
        phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases())
    def check(case: Case) -> None:
        nonlocal done
        compare(guard, log, case)
        done += 1
        if done % 50 == 0:
            gc.collect()  # mappings of programs that are done with

    check()
    return done


def extreme_networks(guard: Guard, log: Log) -> int:
    """Run `EXTREMES`, on one item and on some."""
    for name, make in EXTREMES.items():
        for batch, threads in ((1, 1), (3, 2)):
            compare(guard, log, Case(make(), batch, threads, 1), name)
    return 2 * len(EXTREMES)


def every_operator(guard: Guard, log: Log) -> int:
    """Run each operator on codes and float32, to codes and float32, on planes of several tiles."""
    done = 0
    forms = (None, None), (FORM, None), (FORM, FORM), (None, FORM)
    for (op, attributes, tensors), (reads, gives) in product(OPERATORS, forms):
        weight = tensors.get("weight")
        if weight is not None and (reads is None or not isinstance(weight, LevelWeights)):
            continue  # sums of float32 are free in their order: those of `cases` are exact
        shape = (120,) if op == "FullyConnected" else (4, 5, 6)
        shapes = [shape] * (2 if op in (*PAIRS, "Concat") else 1)
        graph = one_node(op, shapes, attributes, tensors, reads=reads, gives=gives)
        for batch, threads in ((1, 1), (7, 2)):
            compare(guard, log, Case(graph, batch, threads, 1), op)
            done += 1
    return done


def real_networks(guard: Guard, log: Log, folder: str) -> int:
    """Run the model files of a folder."""
    done = 0
    for path in sorted(Path(folder).iterdir()):
        graph = read_model(path)
        for threads in (1, 3):
            compare(guard, log, Case(graph, 3, threads, 1), path.name)
            done += 1
    return done


RUNS: dict[str, Callable[..., int]] = {
    "random": random_networks,
    "extremes": extreme_networks,
    "operators": every_operator,
    "files": real_networks,
}


def main(path: str, edge: str, what: str, *arguments: str) -> None:
    """Run some networks, and print how many there were, and how often each kernel ran."""
    log = Log(path)
    guard = Guard(Edge(edge), 1, log.operation)
    networks = RUNS[what](guard, log, *arguments)
    print(json.dumps({"networks": networks, "ran": guard.ran}))


if __name__ == "__main__":
    faulthandler.enable()
    main(*sys.argv[1:])
