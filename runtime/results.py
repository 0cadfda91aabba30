"""Where the outputs of many items go, a batch at a time: array files, or a list of classes."""

from __future__ import annotations

import codecs
import csv
import errno
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from deepchip.formats.errors import InputError
from deepchip.formats.files import replacing
from deepchip.formats.graph import Value

Array = NDArray[Any]

NAMES = "files"
"""The array of a .npz file that holds which image each row is of."""

COPIED = 2**20
"""Bytes that are copied at a time."""


class Results(Protocol):
    """A file that is filled row by row."""

    def add(self, outputs: Mapping[str, Array], names: Sequence[str]) -> None:
        """Append the rows of some items; `names` are of their image files, if they are images."""


@contextmanager
def open_results(
    target: Path, outputs: Sequence[Value], names: Sequence[str], top: int | None = None
) -> Iterator[Results]:
    """Fill a file that takes the place of `target` when the block ends without an error.

    Parameters
    ----------
    target : .npy for the rows of one output; .npz for those of every output, and the names of image
        files as an array `files`; .csv for the `top` highest values of one output (by default one)
    outputs : of the model
    names : all image files that may come, if they are images

    Raises
    ------
    InputError
        The outputs do not fit the kind of file.
    OSError
        It cannot be written.
    """
    kind = target.suffix
    if kind not in (".npy", ".npz", ".csv"):
        raise InputError(f"{target.name}: results are written to a .npy, .npz or .csv file")
    if kind != ".npz" and len(outputs) > 1:
        raise InputError(f"{target.name}: {len(outputs)} outputs are written to a .npz file")
    if kind != ".csv" and top is not None:
        raise InputError(f"{target.name}: the {top} highest scores are written to a .csv file")
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if kind == ".npz":
        with _archive(target, [output.name for output in outputs], names) as results:
            yield results
    elif kind == ".csv":
        with _classes(target, outputs[0], bool(names), 1 if top is None else top) as results:
            yield results
    else:
        with replacing(target) as file:
            array = _Array(file)
            yield _OneArray(array)
            array.finish()


class _Array:
    """A .npy file whose rows are appended."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._shape: tuple[int, ...] = ()
        self._dtype: Any = None
        self._count = 0

    def append(self, rows: Array) -> None:
        if self._dtype is None:
            self._shape, self._dtype = rows.shape[1:], rows.dtype
            self._write_header()
        self._file.write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
        self._count += len(rows)

    def copy_to(self, file: IO[bytes]) -> None:
        """Write the whole file to another."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, file, COPIED)

    def finish(self) -> None:
        """State the number of rows, for which NumPy's header leaves room."""
        start = self._file.tell() - self._count * prod(self._shape) * self._dtype.itemsize
        self._file.seek(0)
        self._write_header()
        assert self._file.tell() == start

    def _write_header(self) -> None:
        npy.write_array_header_1_0(
            self._file,
            {
                "descr": npy.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self._count, *self._shape),
            },
        )


class _OneArray:
    """Results in a .npy file."""

    def __init__(self, array: _Array) -> None:
        self._array = array

    def add(self, outputs: Mapping[str, Array], names: Sequence[str]) -> None:
        (rows,) = outputs.values()
        self._array.append(rows)


@contextmanager
def _archive(target: Path, outputs: Sequence[str], names: Sequence[str]) -> Iterator[Results]:
    """Fill unnamed files beside the target, one for each array, and join them at the end."""
    if names and NAMES in outputs:
        raise InputError(f"{target.name}: an output has the name {NAMES!r}; write a .npy file")
    with ExitStack() as stack:
        arrays = {
            name: _Array(stack.enter_context(tempfile.TemporaryFile(dir=target.parent)))
            for name in (*outputs, *([NAMES] if names else []))
        }
        yield _Archive(arrays, max(map(len, names), default=0))
        with replacing(target) as file, zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                array.finish()
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    array.copy_to(member)


class _Archive:
    """Results in a .npz file."""

    def __init__(self, arrays: Mapping[str, _Array], width: int) -> None:
        self._arrays = arrays
        self._width = width

    def add(self, outputs: Mapping[str, Array], names: Sequence[str]) -> None:
        for name, rows in outputs.items():
            self._arrays[name].append(rows)
        if NAMES in self._arrays:
            self._arrays[NAMES].append(np.array(names, f"<U{self._width}"))


@contextmanager
def _classes(target: Path, output: Value, named: bool, top: int) -> Iterator[Results]:
    if not 1 <= top <= output.size:
        raise InputError(f"top is {top}, expected 1 to {output.size}, the size of {output.name!r}")
    with replacing(target) as file:
        yield _Classes(codecs.getwriter("utf-8")(file, "surrogateescape"), top, named)


class _Classes:
    """Results in a .csv file: the highest values of each item and where they are."""

    def __init__(self, text: codecs.StreamWriter, top: int, named: bool) -> None:
        self._writer = csv.writer(text, lineterminator="\n")
        self._writer.writerow(("file" if named else "row", "rank", "class", "score"))
        self._top = top
        self._named = named
        self._count = 0

    def add(self, outputs: Mapping[str, Array], names: Sequence[str]) -> None:
        (values,) = outputs.values()
        rows = values.reshape(len(values), -1)
        classes = np.argsort(-rows.astype(np.float32), axis=1, kind="stable")[:, : self._top]
        scores = np.take_along_axis(rows, classes, axis=1)
        items = names if self._named else range(self._count, self._count + len(rows))
        for item, found, scored in zip(items, classes, scores, strict=True):
            for rank, (one, score) in enumerate(zip(found, scored, strict=True), 1):
                self._writer.writerow((item, rank, one, score))
        self._count += len(rows)
