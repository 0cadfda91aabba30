"""What a profile says, as lines and tables of text, for the terminal and for pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..info import count
from ..machine import State, throttling
from .records import Profile


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; `shares` of a column, from 0 to 1, are drawn as bars."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    bars: int = 0
    shares: Sequence[float] = ()


def title(found: Profile) -> str:
    """Return what was profiled, and where."""
    return f"{found.model.file} on {found.machine.board or found.machine.cpu}"


def context(found: Profile) -> list[str]:
    """Return what the figures depend on."""
    on, settings = found.machine, found.settings
    memory = "" if on.memory_bytes is None else f", {on.memory_bytes / 2**30:.1f} GiB"
    names = {"python": "Python", "numpy": "NumPy", "numba": "Numba"}
    versions = [f"{names[key]} {v}" for key, v in found.libraries.items() if key in names]
    return [
        f"{on.cpu}, {on.cores} cores{memory}, {', '.join([*on.simd, f'{on.bits}-bit', on.system])}",
        f"DeepChip {found.deepchip}, {', '.join(versions)}; backend {settings.backend}, "
        f"{settings.input} input, batch {settings.batch}, {settings.runs} calls after "
        f"{settings.warmup} of warm-up",
    ]


def latency(found: Profile) -> Table:
    """Return the figures for each number of threads."""
    most = max(one.fps for one in found.latency)
    return Table(
        ("threads", "FPS", "median ms", "min", "95 %", "99 %"),
        [
            (
                *(str(one.threads), rate(one.fps)),
                *map(ms, (one.median_ms, one.min_ms, one.p95_ms, one.p99_ms)),
            )
            for one in found.latency
        ],
        bars=1,
        shares=[one.fps / most for one in found.latency],
    )


def start(found: Profile) -> Table:
    """Return what the start is made of."""
    starts = [found.start] if found.first_start is None else [found.start, found.first_start]
    head = ("from nothing to the first result", "s", "s, the first time")
    parts = (
        ("Python, NumPy, DeepChip", [one.python_s for one in starts]),
        ("Numba", [one.numba_s for one in starts]),
        ("reading the file", [one.read_s for one in starts]),
        ("decoding weights, planning", [one.plan_s for one in starts]),
        (_kernels(found), [one.kernels_s for one in starts]),
        ("first call", [one.first_run_s for one in starts]),
        ("all", [one.total_s for one in starts]),
    )
    rows = [(name, *(f"{s:.2f}" for s in seconds)) for name, seconds in parts if any(seconds)]
    return Table(head[: 1 + len(starts)], rows)


def _kernels(found: Profile) -> str:
    if found.first_start is not None:
        return f"kernels: from the cache; {found.first_start.compiled} compiled"
    if not found.start.kept:
        return "kernels: compiled each time, with no place to keep them"
    return "kernels: from the cache"


def memory(found: Profile) -> Table:
    """Return what the memory at peak is made of."""
    held = found.memory
    parts = {
        "Python, NumPy, DeepChip": held.imported_bytes,
        "Numba and LLVM": held.numba_bytes - held.imported_bytes,
        "weights, as executed": held.weights_bytes,
        "values between layers": held.arena_bytes + held.scratch_bytes,
    }
    parts["kernels, loading and the rest"] = max(0, held.peak_bytes - sum(parts.values()))
    rows = [(name, mb(size)) for name, size in parts.items() if size]
    rows.append(("all, at peak", mb(held.peak_bytes)))
    return Table(
        ("resident memory", "MB"),
        rows,
        bars=1,
        shares=[size / held.peak_bytes for size in parts.values() if size] + [1.0],
    )


def layers(found: Profile) -> Table:
    """Return the layers that take time, and what a call takes besides."""
    shown = [layer for layer in found.layers if layer.ms]
    rows = [
        (
            layer.name, ms(layer.ms), f"{layer.share:.1%}",
            count(layer.additions) if layer.macs else "-",
            "-" if layer.macs_per_s is None else f"{layer.macs_per_s / 1e9:.1f} G",
            f"{layer.weight_bytes:,}" if layer.weight_bytes else "-",
            layer.op, ", ".join(layer.kernels),
        )
        for layer in shown
    ]  # fmt: skip
    rows += [
        (
            "all layers", ms(sum(layer.ms for layer in shown)), "-",
            count(sum(layer.additions for layer in shown)), "-",
            f"{sum(layer.weight_bytes for layer in found.layers):,}", "", "",
        ),
        ("besides them", ms(found.overhead_ms), *("-" * 4), "", ""),
    ]  # fmt: skip
    return Table(
        ("layer", "ms", "share", "additions", "dense MAC/s", "weight bytes", "op", "kernels"),
        rows,
        bars=2,
        shares=[layer.share for layer in shown],
    )


LAYERS_MEAN = (
    "Layers are timed one by one on one thread; ms are of a call, additions of one item. Dense "
    "MAC/s are the multiply-accumulates of a dense layer of this shape over this layer's time."
)


def versus(found: Profile) -> Table:
    """Return the other runtime beside this one."""
    other = found.versus
    assert other is not None
    ours, theirs = other.ours, other.theirs
    rows = [
        ("median ms, 1 thread", ms(ours.median_ms), ms(theirs.median_ms)),
        ("95 %", ms(ours.p95_ms), ms(theirs.p95_ms)),
        ("FPS", rate(ours.fps), rate(theirs.fps)),
        ("MB at peak", mb(found.memory.peak_bytes), mb(other.peak_bytes)),
        ("start, s", f"{found.start.total_s:.2f}", f"{other.start_s:.2f}"),
        ("bytes of the file", f"{found.model.bytes:,}", f"{other.bytes:,}"),
    ]
    return Table(("called in turns", "DeepChip", f"{other.runtime}, {other.file}"), rows)


def conditions(found: Profile) -> str:
    """Return the state of the machine before and after, in a sentence; "" if it does not tell."""
    said = [(word, _state(state)) for word, state in
            (("before", found.before), ("after", found.after))]  # fmt: skip
    lowest = [one.clock_mhz for one in found.latency if one.clock_mhz is not None]
    hottest = [one.temperature_c for one in found.latency if one.temperature_c is not None]
    during = [f"{min(lowest):,.0f} MHz at least"] if lowest else []
    during += [f"{max(hottest):.0f} °C at most"] if hottest else []
    said.insert(1, ("meanwhile", ", ".join(during)))
    return "; ".join(f"{word} {text}" for word, text in said if text)


def _state(state: State) -> str:
    parts = []
    if state.clock_mhz is not None:
        parts.append(f"{state.clock_mhz:,.0f} MHz")
    if state.temperature_c is not None:
        parts.append(f"{state.temperature_c:.0f} °C")
    if state.throttled is not None:
        parts.append(", ".join(throttling(state.throttled)) or "not throttled")
    if state.governor:
        parts.append(f"governor {state.governor}")
    return ", ".join(parts)


def ms(milliseconds: float) -> str:
    """Return milliseconds to about three digits.

    >>> ms(1234.5), ms(12.345), ms(0.0123)
    ('1,234', '12.3', '0.0123')
    """
    return _digits(milliseconds, 4)


def rate(fps: float) -> str:
    """Return items a second.

    >>> rate(1234.5), rate(0.35)
    ('1,234', '0.35')
    """
    return _digits(fps, 2)


def mb(size: int) -> str:
    """Return bytes in MB."""
    return f"{size / 1e6:,.1f}"


def _digits(number: float, most: int) -> str:
    places = next((n for n, least in enumerate((100, 10, 1, 0.1)) if number >= least), most)
    return f"{number:,.{min(places, most)}f}"
