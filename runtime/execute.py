"""Runs a plan over a batch: in slices, on as many threads as asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .plan import Plan

Array = NDArray[Any]


def execute(
    plan: Plan, inputs: Mapping[str, Array], wanted: Sequence[str], threads: int = 1
) -> dict[str, Array]:
    """Return the `wanted` values for a batch.

    Parameters
    ----------
    inputs : arrays [N, ...] of the graph's inputs, float32 and C-contiguous
    wanted : outputs of the graph, or values that the plan was told to keep
    threads : slices of the batch that run at a time; kernels release the GIL. The threads end with
        the call, so that a fork between calls finds none.
    """
    batch = len(next(iter(inputs.values())))
    values = plan.graph.values
    results = {name: np.empty((batch, *values[name].shape), values[name].dtype) for name in wanted}
    size = max(1, min(plan.slice, -(-batch // threads)))

    def run(start: int) -> None:
        items = slice(start, min(start + size, batch))
        found = run_slice(plan, {name: array[items] for name, array in inputs.items()})
        for name, result in results.items():
            result[items] = found[name]

    starts = range(0, batch, size)
    if threads == 1 or len(starts) == 1:
        for start in starts:
            run(start)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, starts))
    return results


def run_slice(plan: Plan, values: dict[str, Array]) -> dict[str, Array]:
    """Run every step on arrays small enough to be held together; return what is left at the end."""
    for step in plan.steps:
        values[step.output] = step.run([values[name] for name in step.inputs])
        for name in step.releases:
            del values[name]
    return values
