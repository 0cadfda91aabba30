"""Profiles a model: starts the processes that run it, and puts together what they say."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import machine as machines
from .._version import __version__
from ..formats.errors import InputError, UsageError, located
from ..formats.graph import Shape
from ..formats.model_file import model_bytes
from ..runtime.model import MAX_THREADS, Model
from ..runtime.plan import BACKENDS
from ..runtime.rows import open_rows
from .doubts import doubts
from .peer import RUNTIMES
from .pipe import Process
from .records import SCHEMA, ModelFile, Profile, Settings, Versus, in_threads
from .subject import Calls, Inputs, Subject
from .watch import thinned

Array = NDArray[Any]
Progress = Callable[[str], object]
"""Is told what is being done."""

HELD_BATCHES = 8
"""Batches of an input that are used, one after the other."""


def profile(
    source: str | os.PathLike[str] | bytes | Model,
    *,
    inputs: object = None,
    mean: Sequence[float] = (0.0,),
    scale: Sequence[float] = (255.0,),
    backend: str = "numba",
    threads: Sequence[int] = (1,),
    batch: int = 1,
    warmup: int = 5,
    runs: int = 50,
    pause: float = 0.0,
    versus: str | os.PathLike[str] | None = None,
    progress: Progress = lambda text: None,
) -> Profile:
    """Measure what a model takes on this machine.

    The model runs in a process of its own. Where kernels have to be compiled first, another process
    does so, whose start is reported apart.

    Parameters
    ----------
    source : path or bytes of a model file, or a loaded model
    inputs : arrays, an array file or a folder of images, as `deepchip.score` takes them, of which
        eight batches are used in turn; by default random numbers from 0 to 1
    mean, scale : of the pixels of images, (pixel - mean) / scale
    backend : as for `deepchip.load`
    threads : the numbers of threads to measure, one after the other
    batch : items of a call
    warmup, runs : calls before, and calls that are timed, for each number of threads
    pause : seconds to let the machine cool before each number of threads
    versus : an .onnx or .tflite file to run in turns with the model, both on one thread

    Raises
    ------
    UsageError
        A number is out of its range, or `versus` is another file.
    InputError
        The inputs do not fit the model.
    UnsupportedError
        Numba, or the runtime that `versus` needs, is missing.
    DeepChipError, OSError
        The model or another file cannot be read, or a process ended early.
    """
    threads = tuple(threads)
    _check(backend, threads, batch, warmup, runs, pause)
    peer = None if versus is None else Path(versus)
    if peer is not None and peer.suffix not in RUNTIMES:
        raise UsageError(f"{peer.name}: expected a file of {', '.join(RUNTIMES)}")
    settings = Settings(backend, batch, warmup, runs, pause, _named(inputs))
    before = machines.state()
    with tempfile.TemporaryDirectory() as folder:
        path = _model_path(source, Path(folder))
        taken = _inputs(inputs, batch, mean, scale, Path(folder))
        progress("load")
        with _loaded(path, settings, threads[0], taken) as (first, subject):
            busy, since = subject.busy(), subject.watch.now()
            latency = []
            for count in threads:
                progress(in_threads(count))
                latency.append(subject.latency(count))
            others = _cores(busy, subject.busy(), subject.watch.now() - since)
            memory = subject.memory(max(threads))
            progress("layers")
            layers, overhead_ms = subject.layers()
            samples, phases = thinned(subject.watch.samples), tuple(subject.phases)
            if peer is not None:
                progress(peer.name)
            against = None if peer is None else _versus(subject, settings, peer)
        size = path.stat().st_size
    found, after = machines.machine(), machines.state()
    layers_ms = sum(layer.ms for layer in layers) + overhead_ms
    return Profile(
        schema=SCHEMA,
        deepchip=__version__,
        libraries=_libraries(),
        machine=found,
        model=ModelFile(path.name, subject.network, size),
        settings=settings,
        start=subject.start,
        first_start=first,
        latency=tuple(latency),
        layers=layers,
        overhead_ms=overhead_ms,
        memory=memory,
        samples=samples,
        phases=phases,
        before=before,
        after=after,
        others_cores=others,
        warnings=tuple(
            doubts(found, before, after, latency, layers_ms, others, memory.swapped_bytes)
        ),
        versus=against,
    )


def _check(
    backend: str, threads: Sequence[int], batch: int, warmup: int, runs: int, pause: float
) -> None:
    if backend not in BACKENDS:
        raise UsageError(f"backend is {backend!r}, expected one of {', '.join(BACKENDS)}")
    if not threads or not all(1 <= count <= MAX_THREADS for count in threads):
        raise UsageError(f"threads are {threads}, expected numbers from 1 to {MAX_THREADS}")
    for name, value, least in (("batch", batch, 1), ("warmup", warmup, 0), ("runs", runs, 1)):
        if value < least:
            raise UsageError(f"{name} is {value}, expected at least {least}")
    if not 0 <= pause < inf:
        raise UsageError(f"pause is {pause}, expected seconds")


@contextmanager
def _loaded(
    path: Path, settings: Settings, threads: int, inputs: Inputs
) -> Iterator[tuple[Any, Subject]]:
    """Give the start that compiled kernels, if one had to, and the model to measure.

    What the compiler takes is not what the model takes, so a process that compiled is not measured,
    unless every process has to.
    """
    with Subject(path, settings, threads, inputs) as subject:
        if not (subject.start.compiled and subject.start.kept):
            yield None, subject
            return
        first = subject.start
    with Subject(path, settings, threads, inputs) as subject:
        yield first, subject


def _versus(subject: Subject, settings: Settings, path: Path) -> Versus:
    with Process("peer", str(path), str(settings.batch)) as peer:
        runtime = peer.ask("load")["runtime"]
        start_s = perf_counter() - peer.started
        theirs = Calls(settings, lambda runs: list(peer.ask("run", runs=runs)["seconds"]))
        ours = Calls(settings, lambda runs: subject.call(1, runs))
        while ours.left or theirs.left:
            for calls in (ours, theirs):
                if calls.left:
                    calls.go_on()
        return Versus(
            runtime=runtime,
            file=path.name,
            bytes=path.stat().st_size,
            start_s=start_s,
            peak_bytes=peer.ask("memory")["peak"],
            theirs=theirs.latency(1),
            ours=ours.latency(1),
        )


def _cores(before: float | None, after: float | None, seconds: float) -> float | None:
    if before is None or after is None:
        return None
    return max(0.0, after - before) / seconds


def _model_path(source: str | os.PathLike[str] | bytes | Model, folder: Path) -> Path:
    if isinstance(source, (str, os.PathLike)):
        return Path(source)
    path = folder / "model.dchip"
    path.write_bytes(source if isinstance(source, bytes) else model_bytes(source.graph))
    return path


def _named(inputs: object) -> str:
    if inputs is None:
        return "random"
    return Path(inputs).name if isinstance(inputs, (str, os.PathLike)) else "arrays"


def _inputs(
    source: object, batch: int, mean: Sequence[float], scale: Sequence[float], folder: Path
) -> Inputs:
    """Return what writes whole batches of the inputs, once, to a file in a folder."""

    @cache
    def write(*shapes: tuple[str, Shape]) -> Path:
        arrays = (
            _random(dict(shapes), batch)
            if source is None
            else _first(source, dict(shapes), batch, mean, scale)
        )
        np.savez(folder / "inputs.npz", **arrays)  # type: ignore[arg-type]
        return folder / "inputs.npz"

    return lambda said: write(*((name, tuple(shape)) for name, shape in said.items()))


def _random(shapes: Mapping[str, Shape], batch: int) -> dict[str, Array]:
    generator = np.random.default_rng(0)
    return {name: generator.random((batch, *s), np.float32) for name, s in shapes.items()}


def _first(
    source: object,
    shapes: Mapping[str, Shape],
    batch: int,
    mean: Sequence[float],
    scale: Sequence[float],
) -> dict[str, Array]:
    """Return the first items, as many as are used; where there are fewer, they come again."""
    place = Path(source).name if isinstance(source, (str, os.PathLike)) else "inputs"
    with located(place), open_rows(source, shapes, mean, scale) as rows:
        count = min(rows.count, HELD_BATCHES * batch)
        if not count:
            raise InputError("0 items, expected at least 1")
        (first,) = islice(rows.batches(count), 1)
    whole = -(-count // batch) * batch
    return {
        name: np.resize(array, (whole, *array.shape[1:])) for name, array in first.inputs.items()
    }


def _libraries() -> dict[str, str]:
    """Return the versions of Python and what DeepChip needs, of what is installed."""
    found = {"python": platform.python_version()}
    for name in ("numpy", "numba", "llvmlite", "h5py"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
