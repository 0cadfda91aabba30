"""A model in a process of its own, from its start on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from .. import machine
from .pipe import Answer, Process
from .records import Latency, Layer, Memory, Phase, Settings, Start, in_threads
from .watch import Watch

BLOCK_SECONDS = 0.25
"""About how long a process is left to itself, and how long two run in turns."""

Inputs = Callable[[Answer], Path]
"""From the shapes of a model's inputs to a .npz file."""


class Subject:
    """Starts the process, loads the model and calls it once.

    Parameters
    ----------
    path : of the model file
    threads : of the first call
    inputs : makes the file that the process takes the inputs of all calls from

    Attributes
    ----------
    network : what the model calls itself
    start : how long that took
    phases : what was begun when
    """

    def __init__(self, path: Path, settings: Settings, threads: int, inputs: Inputs) -> None:
        self.phases: list[Phase] = []
        self._settings = settings
        with ExitStack() as stack:
            self._process = stack.enter_context(Process("child", str(path), settings.backend))
            self.watch = stack.enter_context(Watch(self._process.pid, self._process.started))
            self._begin("imports")
            imported = self._process.ask("imported")
            python_s = self.watch.now()
            numba = self._process.ask("numba")
            self._begin("load")
            loaded = self._process.ask("load")
            inputs_file = str(inputs(loaded["inputs"]))
            self._process.ask("take", path=inputs_file, batch=settings.batch)
            self._begin("first run")
            first = self._process.ask("run", threads=threads, runs=1)
            self._closing = stack.pop_all()
        self.network = str(loaded["network"])
        self._resident = [said["resident"] for said in (imported, numba, loaded, first)]
        self.start = Start(
            python_s=python_s,
            numba_s=numba["seconds"],
            read_s=loaded["read"],
            plan_s=loaded["plan"],
            kernels_s=loaded["kernels"],
            first_run_s=first["seconds"][0],
            compiled=loaded["compiled"],
            kept=loaded["kept"],
        )

    def __enter__(self) -> Subject:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.__exit__(kind, error, trace)

    def latency(self, threads: int) -> Latency:
        """Warm up, and time the calls for a number of threads."""
        if self._settings.pause_s:
            self._begin("pause")
            time.sleep(self._settings.pause_s)
        self._begin(in_threads(threads))
        calls = Calls(self._settings, lambda runs: self.call(threads, runs))
        begin = self.watch.now()
        while calls.left:
            calls.go_on()
        seen = [sample for sample in self.watch.samples if sample.s >= begin]
        return calls.latency(
            threads,
            min((one.clock_mhz for one in seen if one.clock_mhz is not None), default=None),
            max((one.temperature_c for one in seen if one.temperature_c is not None), default=None),
        )

    def call(self, threads: int, runs: int) -> list[float]:
        """Call the model so often; return the seconds of each."""
        return list(self._process.ask("run", threads=threads, runs=runs)["seconds"])

    def memory(self, threads: int) -> Memory:
        """Return what it has taken so far."""
        said = self._process.ask("memory", batch=self._settings.batch, threads=threads)
        imported, numba, loaded, first_run = self._resident
        return Memory(
            imported_bytes=imported,
            numba_bytes=numba,
            loaded_bytes=loaded,
            first_run_bytes=first_run,
            peak_bytes=said["peak"],
            swapped_bytes=said["swapped"],
            weights_bytes=said["weights"],
            arena_bytes=said["arena"],
            scratch_bytes=said["scratch"],
        )

    def layers(self) -> tuple[tuple[Layer, ...], float]:
        """Time the layers one by one; return also the milliseconds that a call takes besides."""
        self._begin("layers")
        said = self._process.ask("layers", passes=self._settings.runs)
        layers = (Layer(**{**one, "kernels": tuple(one["kernels"])}) for one in said["layers"])
        return tuple(layers), 1e3 * said["besides"]

    def busy(self) -> float | None:
        """Return the seconds that cores have worked for others than it and this process."""
        every = machine.busy_seconds()
        its = machine.process_seconds(self._process.pid)
        if every is None or its is None:
            return None
        return every - its - time.process_time()

    def _begin(self, name: str) -> None:
        self.phases.append(Phase(self.watch.now(), name))


class Calls:
    """The calls of a setting, made in blocks of about a quarter of a second.

    Parameters
    ----------
    call : makes some calls and returns the seconds of each
    """

    def __init__(self, settings: Settings, call: Callable[[int], list[float]]) -> None:
        self._settings = settings
        self._call = call
        self._block = 1
        self._seconds: list[float] = []
        if settings.warmup:
            self._block = _block(call(settings.warmup))

    @property
    def left(self) -> int:
        """How many are still to be made."""
        return self._settings.runs - len(self._seconds)

    def go_on(self) -> None:
        """Make those of a block."""
        seconds = self._call(min(self.left, self._block))
        self._seconds += seconds
        self._block = _block(seconds)

    def latency(
        self, threads: int, clock_mhz: float | None = None, temperature_c: float | None = None
    ) -> Latency:
        """Return what came of them."""
        runs_ms = [1e3 * seconds for seconds in self._seconds]
        least, median, p95, p99 = (float(p) for p in np.percentile(runs_ms, [0, 50, 95, 99]))
        return Latency(
            threads=threads,
            min_ms=least,
            median_ms=median,
            p95_ms=p95,
            p99_ms=p99,
            fps=1e3 * self._settings.batch / median,
            runs_ms=tuple(runs_ms),
            clock_mhz=clock_mhz,
            temperature_c=temperature_c,
        )


def _block(seconds: Sequence[float]) -> int:
    return max(1, int(BLOCK_SECONDS / max(1e-6, float(np.median(seconds)))))
