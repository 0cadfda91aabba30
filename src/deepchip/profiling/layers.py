"""Times the layers of a plan one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.costs import layer_costs
from ..runtime.inputs import check_inputs
from ..runtime.plan import Plan
from ..runtime.steps import Steps
from .records import Layer

Array = NDArray[Any]
Times = dict[str, float]
"""Seconds by layer."""


def time_layers(plan: Plan, batch: Mapping[str, Array], passes: int) -> tuple[list[Layer], float]:
    """Time every layer in so many passes over the network on one thread, and as many whole calls.

    Each pass runs all layers in order, so that a layer finds in the caches what it would find; a
    whole call comes before it, so that what disturbs one disturbs the other.

    Parameters
    ----------
    batch : inputs of a call; where it is more than the plan runs together, the time of what is run
        together is multiplied

    Returns
    -------
    The layers with their medians, and the median of the seconds that a call takes besides them.
    """
    graph = plan.graph
    arrays = check_inputs(graph, batch)
    items = len(next(iter(arrays.values())))
    count = min(items, plan.slice)
    inputs = {name: array[:count] for name, array in arrays.items()}
    measured, besides = [], []
    timed = (
        _steps(plan, inputs, passes)
        if isinstance(plan, Steps)
        else _operations(plan, inputs, passes)
    )
    for times in timed:
        measured.append(times)
        begin = time.perf_counter()
        plan.run(inputs, graph.outputs, 1)
        besides.append(time.perf_counter() - begin - sum(times.values()))
    seconds = {
        name: float(np.median([times[name] for times in measured])) * items / count
        for name in measured[0]
    }
    total = sum(seconds.values()) or 1.0
    costs = {cost.name: cost for cost in layer_costs(graph)}
    kernels, weights = _kernels(plan)
    layers = []
    for node in graph.nodes:
        spent, cost = seconds.get(node.name, 0.0), costs.get(node.name)
        macs = 0 if cost is None else cost.macs
        layers.append(
            Layer(
                name=node.name,
                op=node.op,
                kernels=tuple(kernels.get(node.name, ())),
                ms=1e3 * spent,
                share=spent / total,
                additions=0 if cost is None else cost.additions,
                macs=macs,
                macs_per_s=macs * items / spent if macs and spent else None,
                weight_bytes=weights.get(node.name, 0),
            )
        )
    return layers, max(0.0, float(np.median(besides))) * items / count


def _operations(program: Any, inputs: Mapping[str, Array], passes: int) -> Iterator[Times]:
    from ..runtime.workspace import Workspace

    count = len(next(iter(inputs.values())))
    workspace = Workspace(program, count, threads=1)
    for _ in range(passes):
        for name, array in inputs.items():
            workspace.read(name, array)
        times: Times = {}
        spent = workspace.time_each(count)
        for operation, seconds in zip(program.operations, spent, strict=True):
            times[operation.name] = times.get(operation.name, 0.0) + seconds
        yield times


def _steps(steps: Steps, inputs: Mapping[str, Array], passes: int) -> Iterator[Times]:
    for _ in range(passes):
        values, times = dict(inputs), {}
        with np.errstate(all="ignore"):
            for step in steps.steps:
                begin = time.perf_counter()
                values[step.output] = step.run([values[name] for name in step.inputs])
                times[step.name] = time.perf_counter() - begin
                for name in step.releases:
                    del values[name]
        yield times


def _kernels(plan: Any) -> tuple[dict[str, dict[str, None]], dict[str, int]]:
    """Return the kernels, without repetition, and the bytes of constants of each layer."""
    kernels: dict[str, dict[str, None]] = {}
    weights: dict[str, int] = {}
    for operation in () if isinstance(plan, Steps) else plan.operations:
        kernels.setdefault(operation.name, {})[operation.kernel.__name__] = None
        weights[operation.name] = weights.get(operation.name, 0) + operation.constants
    return kernels, weights
