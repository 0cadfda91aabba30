"""Scoring of more items than memory holds: read, computed and written a batch at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from deepchip.formats.errors import InputError, located

from .model import Model
from .results import open_results
from .rows import Batches, open_rows

BATCH_BYTES = 2**23
"""About how much the inputs and outputs of a batch take; three batches are held at a time."""

Progress = Callable[[int, int], object]
"""Is told how many items are done, and how many there are."""


@dataclass(frozen=True)
class Scored:
    """What became of a source.

    Attributes
    ----------
    count : items whose results were written
    skipped : image files that were left out, with what is wrong with each
    """

    count: int
    skipped: tuple[tuple[str, str], ...]


def score(
    model: Model,
    source: object,
    target: str | os.PathLike[str],
    *,
    batch: int | None = None,
    mean: Sequence[float] = (0.0,),
    scale: Sequence[float] = (255.0,),
    top: int | None = None,
    skip_broken: bool = False,
    progress: Progress = lambda done, count: None,
) -> Scored:
    """Run a model on an array or a folder of any size, and write what it gives.

    Memory does not grow with the source, but for the names of images. The next batch is read, and
    images are decoded by as many threads as the model has, while the model runs. With compiled
    kernels results are the same bits as those of one call over everything.

    Parameters
    ----------
    source : a folder of images, for a model with one input; a .npy file, or a .npz file with an
        array for each input; an array, or what gives arrays for slices, as np.memmap and the
        datasets of h5py and zarr do; or such by name
    target : file that is written beside its place and renamed at the end. .npy: rows of the one
        output, in the order of the source, images sorted by their paths; .npz: rows of every
        output, and for images their paths as an array `files`; .csv: of the one output, the
        classes with the highest scores
    batch : items that are read at a time, rounded up to whole slices of the model's plan; by
        default what takes about `BATCH_BYTES`
    mean, scale : of the pixels of images, (pixel - mean) / scale: one number, or one a channel
    top : how many classes of each item a .csv lists, by default one
    skip_broken : leave out files that are no image, instead of an error
    progress : called after each batch

    Raises
    ------
    InputError
        The source does not fit the model, holds a broken image, or is damaged; or the target does
        not fit the outputs. What `target` was before stays.
    OSError
        Something cannot be read or written.
    """
    target = Path(target)
    size = _whole_slices(model, batch)
    skipped: list[tuple[str, str]] = []
    done = 0
    with ExitStack() as stack:
        with _located(source):
            shapes = {name: model.graph.values[name].shape for name in model.graph.inputs}
            opened = open_rows(source, shapes, mean, scale, skip_broken, model.threads)
            rows = stack.enter_context(opened)
        if skip_broken and rows.names and target.suffix == ".npy":
            raise InputError(
                f"{target.name}: rows would not tell which images were skipped; write a .npz or "
                ".csv file"
            )
        outputs = [model.graph.values[name] for name in model.graph.outputs]
        results = stack.enter_context(open_results(target, outputs, rows.names, top))
        batches = stack.enter_context(closing(_ahead(rows.batches(size))))
        with _located(source):
            for one in batches:
                if one.count or not one.skipped:
                    results.add(model.run(one.inputs), one.names)
                skipped.extend(one.skipped)
                done += one.count + len(one.skipped)
                progress(done, rows.count)
            if done and len(skipped) == done:
                name, fault = skipped[0]
                raise InputError(f"all {done} images are broken; the first, {name}: {fault}")
    return Scored(done - len(skipped), tuple(skipped))


def _whole_slices(model: Model, batch: int | None) -> int:
    """Return how many items to take at a time: the plan then cuts them as it would cut all."""
    if batch is None:
        graph = model.graph
        item = sum(4 * graph.values[name].size for name in (*graph.inputs, *graph.outputs))
        batch = max(1, BATCH_BYTES // max(1, item))
    elif batch < 1:
        raise InputError(f"batch is {batch}, expected at least 1")
    return -(-batch // model.plan.slice) * model.plan.slice


def _located(source: object) -> AbstractContextManager[None]:
    if isinstance(source, (str, os.PathLike)):
        return located(Path(source).name)
    return nullcontext()


def _ahead(batches: Batches) -> Batches:
    """Give all batches; a thread takes the next one while the caller works on this one."""
    with closing(batches), ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = reader.submit(next, batches, None)
            yield batch
