"""Where the inputs of many items come from, a batch at a time: arrays, array files, images."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.errors import InputError
from deepchip.formats.graph import Shape

from .arrays import Stored, damage, load_arrays, stored_arrays
from .images import Pixels, image_names

Array = NDArray[Any]


@dataclass(frozen=True)
class Batch:
    """Some items, in the order of their source.

    Attributes
    ----------
    inputs : arrays [N, ...] by name
    names : of the N image files, none where the source is no folder
    skipped : image files that are broken, with what is wrong with them
    """

    inputs: Mapping[str, Array]
    names: Sequence[str] = ()
    skipped: Sequence[tuple[str, str]] = ()

    @property
    def count(self) -> int:
        """N."""
        return len(next(iter(self.inputs.values())))


Batches = Generator[Batch, None, None]


class Rows(Protocol):
    """Items that are taken once, from the first to the last."""

    @property
    def count(self) -> int:
        """How many there are, broken ones too."""

    @property
    def names(self) -> Sequence[str]:
        """Of all image files; none where the source is no folder."""

    def batches(self, size: int) -> Batches:
        """Give all items, `size` at a time; of no items one empty batch."""


@contextmanager
def open_rows(
    source: object,
    shapes: Mapping[str, Shape],
    mean: Sequence[float],
    scale: Sequence[float],
    skip_broken: bool = False,
    threads: int = 1,
) -> Iterator[Rows]:
    """Open what holds items for inputs of these shapes.

    Parameters
    ----------
    source : a folder of images, for one input; a .npy or .npz file; an array, or whatever has a
        shape and gives arrays for slices (np.memmap, a dataset of h5py or zarr); or a mapping of
        such by name. One array is the one input, whatever it is called.
    mean, scale : of the pixels of images, see `Pixels`
    skip_broken, threads : see `Images`

    Raises
    ------
    InputError
        It is no array file, or holds other numbers of rows; or it is a folder without images, or
        for several inputs.
    OSError
        It cannot be read.
    """
    names = list(shapes)
    if isinstance(source, (str, os.PathLike)):
        if Path(source).is_dir():
            if len(names) != 1:
                raise InputError(f"a folder of images for inputs {names}, expected one input")
            pixels = Pixels(shapes[names[0]], mean, scale)
            yield Images(Path(source), names[0], pixels, skip_broken, threads)
        else:
            with ExitStack() as stack:
                yield _rows(_array_file(Path(source), stack), names)
    else:
        given = source if isinstance(source, Mapping) else {"": source}
        yield _rows({name: _Held(array) for name, array in given.items()}, names)


class Images:
    """Images of a folder, decoded by several threads.

    Parameters
    ----------
    folder : as `images.image_names` reads it
    input_name, pixels : what they become
    skip_broken : leave out a file that is no image, instead of an error
    threads : that decode
    """

    def __init__(
        self, folder: Path, input_name: str, pixels: Pixels, skip_broken: bool, threads: int
    ) -> None:
        self.names = image_names(folder)
        self.count = len(self.names)
        self._folder = folder
        self._input = input_name
        self._pixels = pixels
        self._skip = skip_broken
        self._threads = threads

    def batches(self, size: int) -> Batches:
        """Do what `Rows.batches` says."""
        with ThreadPoolExecutor(self._threads) as pool:
            for start in range(0, self.count, size):
                names = self.names[start : start + size]
                images = np.empty((len(names), *self._pixels.shape), np.float32)
                faults = list(pool.map(self._read, images, names))
                good = [index for index, fault in enumerate(faults) if not fault]
                yield Batch(
                    {self._input: images if len(good) == len(names) else images[good]},
                    [names[index] for index in good],
                    [pair for pair in zip(names, faults, strict=True) if pair[1]],
                )

    def _read(self, image: Array, name: str) -> str:
        """Read an image; return what is wrong with it, if that is no error."""
        try:
            image[:] = self._pixels.read(self._folder, name)
        except InputError as error:
            if not self._skip:
                raise
            return str(error).removeprefix(f"{name}: ")
        return ""


class _Source(Protocol):
    """Rows of one array, taken from the first to the last."""

    count: int

    def take(self, start: int, stop: int) -> Array:
        """Return rows of an array of their own."""


class _Held:
    """Rows of an array, or of something that gives arrays for slices."""

    def __init__(self, source: Any) -> None:
        self._array = source if hasattr(source, "shape") else np.asarray(source)
        if len(self._array.shape) == 0:
            raise InputError("a single number was given, expected an array of rows")
        self.count = int(self._array.shape[0])

    def take(self, start: int, stop: int) -> Array:
        # A copy, so that a mapped file is read here and not where the model computes; of the same
        # kind, so that masks are seen.
        return np.array(self._array[start:stop], subok=True)


class _InFile:
    """Rows of an array in a file, read and not mapped: a mapped file that is cut kills its readers.

    Parameters
    ----------
    file : stands behind the header
    """

    def __init__(self, file: IO[bytes], stored: Stored) -> None:
        self._file = file
        self._stored = stored
        self.count = stored.shape[0]

    def take(self, start: int, stop: int) -> Array:
        shape = (stop - start, *self._stored.shape[1:])
        size = prod(shape) * self._stored.dtype.itemsize
        with damage():
            data = self._file.read(size)
            if len(data) != size:
                raise ValueError(f"it ends in rows {start} to {stop} of {self.count}")
            if stop == self.count:
                self._file.read(1)  # compares the digest
            return np.ndarray(shape, self._stored.dtype, data)


@dataclass(frozen=True)
class _Arrays:
    """Items whose inputs are rows of arrays."""

    count: int
    sources: Mapping[str, _Source]
    names: Sequence[str] = ()

    def batches(self, size: int) -> Batches:
        for start in range(0, max(1, self.count), size):
            stop = min(start + size, self.count)
            yield Batch({name: one.take(start, stop) for name, one in self.sources.items()})


def _rows(sources: Mapping[str, _Source], wanted: Sequence[str]) -> Rows:
    if len(wanted) == len(sources) == 1:
        sources = dict(zip(wanted, sources.values(), strict=True))
    if set(sources) != set(wanted):
        raise InputError(f"inputs {sorted(sources)} were given, expected {sorted(wanted)}")
    counts = {name: one.count for name, one in sources.items()}
    if len(set(counts.values())) != 1:
        raise InputError(f"the arrays have {counts} rows, expected one number")
    return _Arrays(next(iter(counts.values())), sources)


def _array_file(path: Path, stack: ExitStack) -> Mapping[str, _Source]:
    """Open the arrays of a file; where one is stored column by column, all are read whole."""
    if not path.is_file() and path.exists():  # a pipe has no size
        raise InputError("no array file (.npy or .npz): no regular file")
    file = stack.enter_context(open(path, "rb"))  # noqa: SIM115  (the caller's stack closes it)
    with damage():
        stored = stored_arrays(file)
        if not all(one.shape for one in stored.values()):
            raise ValueError("it holds a single number, expected rows")
        if any(one.in_columns and len(one.shape) > 1 for one in stored.values()):
            return {name: _Held(array) for name, array in load_arrays(path).items()}
        return {name: _InFile(stack.enter_context(one.open()), one) for name, one in stored.items()}
