"""A profile as JSON, for the terminal, and as a page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .. import page
from ..page import Bar, Cell
from ..runtime.table import table
from . import tables
from .compare import Comparison
from .records import Profile, in_threads
from .tables import Table

SHOWN = 0.01
"""The share of the time from which on a layer has a bar of its own."""


def as_dict(found: Profile, comparison: Comparison | None = None) -> dict[str, Any]:
    """Return plain data: docs/profile.md."""
    data = asdict(found)
    for one, start in (("start", found.start), ("first_start", found.first_start)):
        if start is not None:
            data[one]["total_s"] = start.total_s
    data["memory"]["model_bytes"] = found.memory.model_bytes
    if comparison is not None:
        data["comparison"] = asdict(comparison)
    return data


def as_text(found: Profile, comparison: Comparison | None = None) -> str:
    """Return a page for the terminal."""
    parts = ["\n".join([tables.title(found), *tables.context(found)]), _text(tables.latency(found))]
    parts += [_text(tables.layers(found)), tables.LAYERS_MEAN]
    parts += [_text(tables.memory(found)), _adds(found), _text(tables.start(found))]
    if found.versus is not None:
        parts.append(_text(tables.versus(found)))
    if comparison is not None:
        parts += ["\n".join(_compared(comparison)), _text(comparison.table())]
    if tables.conditions(found):
        parts.append(f"machine: {tables.conditions(found)}")
    if found.warnings:
        parts.append("\n".join(f"warning: {line}" for line in found.warnings))
    return "\n\n".join(parts)


def as_html(found: Profile, comparison: Comparison | None = None) -> str:
    """Return a page of HTML."""
    best = max(found.latency, key=lambda one: one.fps)
    parts = [
        *(page.text(line, soft=True) for line in tables.context(found)),
        page.tiles(
            [
                (f"FPS, {in_threads(best.threads)}", tables.rate(best.fps)),
                (f"median ms, {in_threads(best.threads)}", tables.ms(best.median_ms)),
                ("MB at peak", tables.mb(found.memory.peak_bytes)),
                ("MB for the model", tables.mb(found.memory.model_bytes)),
                ("start, s", f"{found.start.total_s:.2f}"),
            ]
        ),
    ]
    if found.warnings:
        parts += [page.heading("What speaks against these figures"), page.listing(found.warnings)]
    parts += [page.heading("Latency"), _html(tables.latency(found)), _calls(found)]
    if found.versus is not None:
        parts += [page.heading(f"Beside {found.versus.runtime}"), _html(tables.versus(found))]
    if comparison is not None:
        parts += [page.heading("Compared"), *map(page.text, _compared(comparison))]
        parts.append(_html(comparison.table()))
    parts += [
        page.heading("Layers"), _bars(found), _html(tables.layers(found)),
        page.text(tables.LAYERS_MEAN, soft=True),
        page.heading("Memory"), _html(tables.memory(found)), page.text(_adds(found)),
        *_over_time(found), page.heading("Start"), _html(tables.start(found)),
    ]  # fmt: skip
    if tables.conditions(found):
        parts += [page.heading("The machine"), page.text(tables.conditions(found))]
    return page.page(tables.title(found), *parts)


def _text(found: Table) -> str:
    return table(found.head, found.rows)


def _html(found: Table) -> str:
    rows: list[list[Cell]] = [list(row) for row in found.rows]
    for row, share in zip(rows, found.shares, strict=False):
        row[found.bars] = Bar(str(row[found.bars]), share)
    return page.html_table(found.head, rows)


def _adds(found: Profile) -> str:
    held = found.memory
    return (
        f"The model adds {tables.mb(held.model_bytes)} MB to the imports at its peak, and "
        f"{tables.mb(held.first_run_bytes - held.numba_bytes)} MB once it has run."
    )


def _compared(found: Comparison) -> list[str]:
    return [f"this: {found.names[0]}", f"other: {found.names[1]}", *found.differences]


def _bars(found: Profile) -> str:
    """Return the layers that take the most, as bars, and the others as one."""
    shown = [layer for layer in found.layers if layer.share >= SHOWN]
    rest = [layer for layer in found.layers if 0 < layer.share < SHOWN]
    bars = [(layer.name, layer.share, f"{tables.ms(layer.ms)} ms") for layer in shown]
    if rest:
        shares, times = sum(layer.share for layer in rest), sum(layer.ms for layer in rest)
        bars.append((f"{len(rest)} others", shares, f"{tables.ms(times)} ms"))
    return page.bar_chart(bars)


def _calls(found: Profile) -> str:
    """Return the calls of all numbers of threads, one after the other."""
    values: list[float] = []
    labels: list[str] = []
    marks: list[float] = []
    for one in found.latency:
        marks.append(float(len(values)))
        values += one.runs_ms
        labels += [f"{in_threads(one.threads)}, call {n}" for n in range(1, len(one.runs_ms) + 1)]
    order = ", then ".join(in_threads(one.threads) for one in found.latency)
    ends = ("first call", f"last call of {len(values)}")
    return page.text(f"Every call in order: {order}.", soft=True) + page.line_chart(
        values, labels, "ms", ends=ends, marks=marks
    )


def _over_time(found: Profile) -> list[str]:
    """Return the memory, and the clock and temperature where known, over the run."""
    samples = found.samples
    if not samples:
        return []
    at = [sample.s for sample in samples]
    labels = [f"{seconds:.1f} s" for seconds in at]
    marks = [phase.s for phase in found.phases]
    begun = ", ".join(f"{phase.name} at {phase.s:.1f} s" for phase in found.phases)
    parts = [page.text(f"Over the run, with a line where each part began: {begun}.", soft=True)]
    for name, unit, values in (
        ("resident memory", "MB", [sample.resident_bytes / 1e6 for sample in samples]),
        ("clock", "MHz", [sample.clock_mhz for sample in samples]),
        ("temperature", "°C", [sample.temperature_c for sample in samples]),
    ):
        known = [value for value in values if value is not None]
        if len(known) == len(samples):
            ends = ("0 s", f"{at[-1]:.1f} s; {name}")
            parts.append(
                page.line_chart(known, labels, unit, ends=ends, at=[0.0, *at[1:]], marks=marks)
            )
    return parts
