"""Why figures may not be what a machine does at its best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..machine import FOLLOWING, HOT, SINCE_START, THROTTLED, Machine, State
from .records import Latency, in_threads

SLOWED = 0.95
"""A clock below this share of the highest has dropped."""
BUSY = 0.2
"""Cores at work for others from which on they are named."""
SPREAD = 1.5
"""How many times the median the 95th percentile may be."""
APART = 0.2
"""How far the sum over layers may lie from what a call took, as a share of that."""
ENOUGH = 20
"""Calls from which on percentiles are looked at."""


def doubts(
    machine: Machine,
    before: State,
    after: State,
    latency: Sequence[Latency],
    layers_ms: float,
    others_cores: float | None,
    swapped_bytes: int,
) -> Iterator[str]:
    """Yield a line for each reason, with what to do about it; `layers_ms` is a call, by layers."""
    yield from _clock(machine, before, after, latency)
    yield from _power(before, after)
    if others_cores is not None and others_cores > BUSY:
        yield f"other programs kept {others_cores:.1f} cores at work meanwhile; stop them"
    if swapped_bytes:
        yield (
            f"{swapped_bytes / 1e6:.0f} MB of the process were swapped out: memory is short; stop "
            "other programs"
        )
    for one in latency:
        if one.threads > machine.cores:
            yield f"{one.threads} threads share {machine.cores} cores; ask for fewer"
        if len(one.runs_ms) >= ENOUGH and one.p95_ms > SPREAD * one.median_ms:
            yield (
                f"with {in_threads(one.threads)} one call in 20 took "
                f"{one.p95_ms / one.median_ms:.1f} times the median or longer; something else was "
                "at work"
            )
        if one.threads == 1 and abs(layers_ms - one.median_ms) > APART * one.median_ms:
            yield (
                f"a call took {one.median_ms:.3g} ms, its layers one by one {layers_ms:.3g} ms; "
                "something else was at work"
            )


def _clock(
    machine: Machine, before: State, after: State, latency: Sequence[Latency]
) -> Iterator[str]:
    if before.governor == "powersave" and before.driver not in FOLLOWING:
        yield "governor 'powersave' keeps the clock at its lowest; choose 'performance'"
    elif before.governor not in ("", "performance"):
        yield (
            f"governor {before.governor!r} lets the clock follow the load; for figures that can be "
            "compared choose 'performance' (deepchip doctor says how)"
        )
    most = before.max_clock_mhz
    if not machine.architecture.startswith(("aarch64", "arm")):
        # What a PC states as the most is reached by one core for a moment.
        most = max([one.clock_mhz or 0.0 for one in latency], default=0.0)
    for one in latency:
        if most and one.clock_mhz is not None and one.clock_mhz < SLOWED * most:
            yield (
                f"with {in_threads(one.threads)} the clock fell to {one.clock_mhz:,.0f} of "
                f"{most:,.0f} MHz"
            )
    hottest = max((s.temperature_c for s in (before, after) if s.temperature_c), default=0.0)
    hottest = max([hottest, *(one.temperature_c or 0.0 for one in latency)])
    if hottest >= HOT:
        yield f"the CPU was {hottest:.0f} degrees hot; cool it, or let it rest with --pause"


def _power(before: State, after: State) -> Iterator[str]:
    if before.throttled is not None and after.throttled is not None:
        # What has happened since the start, and had not before, happened meanwhile.
        seen = (
            before.throttled
            | after.throttled
            | (after.throttled & ~before.throttled) >> SINCE_START
        )
        for bit, word in enumerate(THROTTLED):
            if seen >> bit & 1:
                yield f"{word} meanwhile, says the firmware; see to the {_REMEDIES[bit]}"
    if before.low_voltage or after.low_voltage:
        yield "the supply's voltage is too low, says its sensor; use a stronger supply"
    if before.on_battery or after.on_battery:
        yield "the machine runs on its battery"


_REMEDIES = (
    "power supply",
    "power supply and the cooling",
    "power supply and the cooling",
    "cooling",
)
"""By the bits of `THROTTLED`."""
