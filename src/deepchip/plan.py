"""`deepchip info --plan`: the program that a model becomes on this machine."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from .runtime.model import load
from .runtime.table import table

if TYPE_CHECKING:  # it imports Numba; where that is missing, `load` says so
    from .runtime.program import Program


def describe_plan(path: str | os.PathLike[str], *, as_json: bool = False) -> str:
    """Return a page, or JSON, on the operations of a model; errors as of `load`."""
    program: Any = load(path).plan
    return json.dumps(_as_dict(program), indent=2) if as_json else _page(program)


def _page(program: Program) -> str:
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


def _as_dict(program: Program) -> dict[str, Any]:
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
