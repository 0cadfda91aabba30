"""`deepchip info --plan`: the program that a model becomes on this machine."""

from __future__ import annotations

import os
from typing import Any

from .formats.errors import UnsupportedError
from .runtime.model import load
from .runtime.program import Program
from .runtime.table import table


def describe_plan(path: str | os.PathLike[str]) -> str:
    """Return a page on the operations of a model; errors as of `load`."""
    program = _program(path)
    total = sum(operation.cost for operation in program.operations) or 1.0
    rows = [
        (
            str(number), operation.name, operation.kernel.__name__, f"{operation.constants:,}",
            f"{operation.cost / 1e3:,.0f}", f"{operation.cost / total:.0%}", operation.reason,
        )
        for number, operation in enumerate(program.operations, 1)
    ]  # fmt: skip
    head = ("", "layer", "kernel", "weights", "est. us", "share", "because of")
    return (
        f"{table(head, rows)}\n\n"
        f"weights as executed: {program.executed_bytes:,} bytes; arena of one item: "
        f"{program.arena_bytes():,}; scratch of a thread: {program.scratch:,}\n"
        f"a batch is run {program.slice} items at a time; times are estimates for one core, made "
        "to compare layers"
    )


def plan_as_dict(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the same for JSON."""
    program = _program(path)
    return {
        "operations": [
            {
                "layer": operation.name,
                "kernel": operation.kernel.__name__,
                "constant_bytes": operation.constants,
                "estimated_nanoseconds": round(operation.cost),
                "reason": operation.reason,
            }
            for operation in program.operations
        ],
        "executed_bytes": program.executed_bytes,
        "arena_bytes": program.arena_bytes(),
        "scratch_bytes_per_thread": program.scratch,
        "slice": program.slice,
    }


def _program(path: str | os.PathLike[str]) -> Program:
    plan = load(path).plan
    if not isinstance(plan, Program):
        raise UnsupportedError("the NumPy backend has no program to show")
    return plan
