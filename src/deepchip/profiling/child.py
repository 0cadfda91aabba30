"""The process in which a model is measured; `measure.py` starts it and asks.

Up to `numba` it imports no more than an application that loads a model.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats import kernel_cache
from ..formats.errors import located
from ..formats.jit import compiled_kernels, undivided
from ..formats.model_file import read_model
from ..runtime.memory import peak_resident, resident
from ..runtime.model import Model
from ..runtime.plan import peak_bytes
from ..runtime.steps import Steps
from .pipe import Answer, serve

Array = NDArray[Any]


class _Child:
    """Answers the questions, each a public method; they are asked in this order."""

    def __init__(self, path: str, backend: str) -> None:
        self._path = path
        self._backend = backend
        self._model: Any = None
        self._batches: list[dict[str, Array]] = []
        self._next = 0
        self._kernels_s = 0.0

    def imported(self) -> Answer:
        """Return what is resident before anything was done."""
        return {"resident": resident()}

    def numba(self) -> Answer:
        """Import what the backend needs, and take the one kernel that every program has."""
        begin = time.perf_counter()
        if self._backend == "numba":
            with suppress(ImportError), undivided():  # `load` says that it is missing
                import numba  # noqa: F401

                with _kernel_seconds(True) as kernels:
                    from ..runtime.kernels.compiled.execute import execute

                    execute.compile()  # any kernel will do: it starts the compiler
                    self._kernels_s = kernels()
        seconds = time.perf_counter() - begin - self._kernels_s
        return {"seconds": seconds, "resident": resident()}

    def load(self) -> Answer:
        """Load the model as `deepchip.load` does, and say what took how long."""
        compiled = self._backend == "numba"
        with located(Path(self._path).name), _kernel_seconds(compiled) as kernels:
            times = [(time.perf_counter(), kernels())]
            graph = read_model(self._path, compiled=compiled)
            times.append((time.perf_counter(), kernels()))
            self._model = Model(graph, backend=self._backend)
            times.append((time.perf_counter(), kernels()))
        read, plan = (
            (after - before) - (later - earlier)
            for (before, earlier), (after, later) in pairwise(times)
        )
        return {
            "network": graph.name,
            "inputs": {name: graph.values[name].shape for name in graph.inputs},
            "read": read,
            "plan": plan,
            "kernels": self._kernels_s + times[-1][1],
            "compiled": compiled_kernels(),
            "kept": kernel_cache.works(),
            "resident": resident(),
        }

    def take(self, path: str, batch: int) -> Answer:
        """Take the inputs of the calls: as many whole batches as a .npz file holds."""
        with np.load(path, allow_pickle=False) as arrays:
            held = dict(arrays)
        count = len(next(iter(held.values())))
        self._batches = [
            {name: array[start : start + batch] for name, array in held.items()}
            for start in range(0, count, batch)
        ]
        return {}

    def run(self, threads: int, runs: int) -> Answer:
        """Call the model so often, and return the seconds of each call."""
        self._model.threads = threads
        seconds = []
        for _ in range(runs):
            batch = self._batches[self._next % len(self._batches)]
            self._next += 1
            begin = time.perf_counter()
            self._model.run(batch)
            seconds.append(time.perf_counter() - begin)
        return {"seconds": seconds, "resident": resident()}

    def memory(self, batch: int, threads: int) -> Answer:
        """Return what the process takes, and of what it is made."""
        plan: Any = self._model.plan
        images = min(batch, plan.slice)
        steps = isinstance(plan, Steps)
        return {
            "peak": peak_resident(),
            "swapped": _swapped(),
            "weights": 0 if steps else plan.executed_bytes,
            "arena": images * peak_bytes(plan.graph) if steps else plan.arena_bytes(images),
            "scratch": 0 if steps else threads * plan.scratch,
        }

    def layers(self, passes: int) -> Answer:
        """Measure the layers one at a time; return the fields of each `Layer`."""
        from .layers import time_layers

        found, besides = time_layers(self._model.plan, self._batches[0], passes)
        return {"layers": [asdict(layer) for layer in found], "besides": besides}


@contextmanager
def _kernel_seconds(compiled: bool) -> Iterator[Any]:
    """Give a function that returns the seconds spent on kernels so far, in this block.

    Numba holds its compiler's lock while it compiles a kernel or takes it from the cache, and says
    so: Numba's Event API, "numba:compiler_lock".
    """
    if not compiled:
        yield lambda: 0.0
        return
    from numba.core.event import TimingListener, install_listener

    clock: Any = TimingListener
    with install_listener("numba:compiler_lock", clock()) as listener:
        yield lambda: listener.duration if listener.done else 0.0


def _swapped() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return 1024 * int(status.partition("VmSwap:")[2].split()[0])
    except (OSError, IndexError):
        return 0


def main(path: str, backend: str) -> None:
    """Answer on the standard output."""
    warnings.simplefilter("ignore", RuntimeWarning)  # that kernels are not kept is in the answers
    child = _Child(path, backend)
    questions = (
        *(child.imported, child.numba, child.load, child.take),
        *(child.run, child.memory, child.layers),
    )
    serve({question.__name__: question for question in questions})
