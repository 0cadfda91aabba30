"""Two profiles side by side: of two machines, or of two releases."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..formats.errors import InputError
from .records import SCHEMA, in_threads
from .tables import Table, mb, ms, rate

Data = dict[str, Any]
"""A profile as its JSON says it."""


@dataclass(frozen=True)
class Figure:
    """One figure of both; `ratio` is the first over the second."""

    name: str
    ours: str
    other: str
    ratio: float


@dataclass(frozen=True)
class Comparison:
    """What two profiles say of the same.

    Attributes
    ----------
    names : of the two
    differences : of what was measured, for which the figures do not compare
    """

    names: tuple[str, str]
    differences: tuple[str, ...]
    figures: tuple[Figure, ...]

    def table(self) -> Table:
        """Return the figures."""
        rows = [(one.name, one.ours, one.other, f"{one.ratio:.2f}") for one in self.figures]
        return Table(("", "this", "other", "ratio"), rows)


def read_profile(path: str | os.PathLike[str]) -> Data:
    """Return a profile that was printed as JSON.

    Raises
    ------
    InputError
        The file is none, or of a release that says other things.
    OSError
        It cannot be read.
    """
    path = Path(path)
    try:
        data: Data = json.loads(path.read_bytes())
        schema = data["schema"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InputError(
            f"{path.name}: no profile; make one with deepchip profile --json"
        ) from None
    if schema != SCHEMA:
        raise InputError(
            f"{path.name}: profile of schema {schema!r}, this release compares {SCHEMA}; measure "
            "both with one release"
        )
    return data


def compare(ours: Data, other: Data) -> Comparison:
    """Compare two profiles.

    Raises
    ------
    InputError
        One of them is damaged.
    """
    try:
        return Comparison(
            (_name(ours), _name(other)),
            tuple(_differences(ours["settings"], other["settings"])),
            tuple(_figures(ours, other)),
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        raise InputError("a profile to compare is damaged; measure it again") from None


def _name(data: Data) -> str:
    where = data["machine"]["board"] or data["machine"]["cpu"]
    return f"{data['model']['file']} on {where}, DeepChip {data['deepchip']}"


def _differences(ours: Data, other: Data) -> Iterator[str]:
    for name in ("backend", "batch"):
        if ours[name] != other[name]:
            yield f"{name} {ours[name]} here, {other[name]} there: the figures do not compare"


def _figures(ours: Data, other: Data) -> Iterator[Figure]:
    def figure(name: str, a: float, b: float, text: Any) -> Iterator[Figure]:
        if b:
            yield Figure(name, text(a), text(b), a / b)

    theirs = {one["threads"]: one for one in other["latency"]}
    for one in ours["latency"]:
        if one["threads"] in theirs:
            beside, of = theirs[one["threads"]], in_threads(one["threads"])
            yield from figure(f"FPS, {of}", one["fps"], beside["fps"], rate)
            yield from figure(f"median ms, {of}", one["median_ms"], beside["median_ms"], ms)
            yield from figure(f"95 % ms, {of}", one["p95_ms"], beside["p95_ms"], ms)
    start = (ours["start"]["total_s"], other["start"]["total_s"])
    yield from figure("start, s", *start, "{:.2f}".format)
    for name, field in (("MB at peak", "peak_bytes"), ("MB of the model", "model_bytes")):
        yield from figure(name, ours["memory"][field], other["memory"][field], mb)
    layers = {layer["name"]: layer for layer in other["layers"]}
    for layer in ours["layers"]:
        if layer["name"] in layers:
            times = (layer["ms"], layers[layer["name"]]["ms"])
            yield from figure(f"layer {layer['name']}, ms", *times, ms)
