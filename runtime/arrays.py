"""Arrays from .npy and .npz files: never pickled objects, and no more than a file holds.

The formats: numpy.lib.format, and zip archives of such files as numpy.savez writes them.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from errno import EINVAL
from functools import partial
from math import inf, prod
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from deepchip.formats.errors import InputError, located

FREE_BYTES = 2**26
MAX_RATIO = 20
"""An archive may unpack to `FREE_BYTES`, or so many times its own size."""
MAX_DIRECTORY = 2**21
"""Bytes of an archive's list of members, about 20,000: Python makes ten times as much of them."""

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_HEAD = 2**14
"""NumPy refuses headers of more than 10,000 bytes, but takes memory for 4 GB that one declares."""
_CHUNK = 2**20


def load_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a .npz file by name, or the one of a .npy file under the name "".

    Raises
    ------
    InputError
        The file is neither, is damaged, holds Python objects, or unpacks to far more than its size.
    OSError
        It cannot be read.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would never end
        raise InputError(f"{path.name}: no array file (.npy or .npz): no regular file")
    with path.open("rb") as file, located(path.name), damage():
        most = max(FREE_BYTES, MAX_RATIO * os.fstat(file.fileno()).st_size)
        return {name: one.read() for name, one in stored_arrays(file, most).items()}


@dataclass(frozen=True)
class Stored:
    """An array in a file that was opened: what its header declares is exactly what there is.

    Attributes
    ----------
    place : for errors, of a member of an archive
    in_columns : whether it is stored column by column (Fortran order)
    start : bytes of its header
    size : bytes of its elements
    open_whole : gives a file of its .npy form, from the beginning
    """

    place: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    in_columns: bool
    start: int
    size: int
    open_whole: Callable[[], BinaryIO]

    def open(self) -> BinaryIO:
        """Return a file that stands behind the header; a read behind its end checks the digest."""
        file = self.open_whole()
        file.read(self.start)
        return file

    def read(self) -> NDArray[Any]:
        """Return the whole array. Raises InputError, as `stored_arrays`."""
        with located(self.place) if self.place else nullcontext(), damage():
            file: Any = self.open()
            data = bytearray(self.size)
            view = memoryview(data)
            at = 0
            while at < self.size and (count := file.readinto(view[at : at + _CHUNK])):
                at += count
            if at < self.size:
                raise EOFError(f"it ends after {at} of {self.size} bytes")
            file.read(1)
            return np.ndarray(self.shape, self.dtype, data, order="F" if self.in_columns else "C")


def stored_arrays(file: BinaryIO, most: float = inf) -> dict[str, Stored]:
    """Return the arrays of an open .npz file by name, or the one of a .npy file as "".

    Parameters
    ----------
    most : bytes that an archive may unpack to

    Raises
    ------
    InputError, or what `damage` makes one of
        The file is neither, is damaged, or holds Python objects.
    """
    size = os.fstat(file.fileno()).st_size
    magic = file.read(len(npy.MAGIC_PREFIX))
    file.seek(0)
    if magic == npy.MAGIC_PREFIX:
        return {"": _stored("", size, partial(_rewound, file))}
    _check_directory(file, size)
    archive = zipfile.ZipFile(file)
    total = sum(member.file_size for member in archive.infolist())
    if total > most:
        raise ValueError(f"it unpacks to {total} bytes, expected {most} at most")
    return dict(_members(archive))


def _rewound(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file


@contextmanager
def damage() -> Iterator[None]:
    """Say in one line of ours what NumPy and zipfile raise for a damaged file."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno != EINVAL:
            raise
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"no array file (.npy or .npz): {text}") from None


_DAMAGE = (
    *(ValueError, EOFError, zipfile.BadZipFile, zlib.error),
    RuntimeError,  # a member is encrypted, or compressed as Python does not know
    *(OSError, OverflowError),  # a member lies before the file, or too far behind it
)


def _check_directory(file: BinaryIO, size: int) -> None:
    """Refuse an archive of very many members before Python lists them."""
    tail = min(size, 2**16 + 22)
    file.seek(size - tail)
    # Its end says, 12 bytes behind a signature, how long the list is (APPNOTE 6.3.10, 4.3.16).
    ends = [int.from_bytes(found[1], "little") for found in _END.finditer(file.read(tail))]
    if max(ends, default=0) > MAX_DIRECTORY and size < 2**32:
        raise ValueError(
            f"a list of members of {max(ends)} bytes, at most {MAX_DIRECTORY} are read"
        )


_END = re.compile(rb"(?=PK\x05\x06.{8}(.{4}))", re.DOTALL)


def _members(archive: zipfile.ZipFile) -> Iterator[tuple[str, Stored]]:
    known: set[str] = set()
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        place = repr(member.filename)
        with located(place), damage():
            if name in known:
                raise ValueError("a second array of this name")
            known.add(name)
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("compressed as numpy does not do it")  # LZMA can ask for 4 GB
            yield name, _stored(place, member.file_size, partial(_opened, archive, member))


def _opened(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> BinaryIO:
    return cast(BinaryIO, archive.open(member))


def _stored(place: str, size: int, open_whole: Callable[[], BinaryIO]) -> Stored:
    """Read the header of a .npy file of `size` bytes."""
    head = io.BytesIO(open_whole().read(_HEAD))
    try:
        shape, in_columns, dtype = _HEADERS[npy.read_magic(head)](head)
    except Exception as error:  # the header goes through Python's own parser
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"a header that cannot be read: {text}") from None
    left = size - head.tell()
    if dtype.hasobject or dtype.subdtype is not None or not dtype.itemsize:
        raise ValueError(f"it holds {dtype}, expected numbers")
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != left:
        raise ValueError(f"it declares {dtype} {shape} and holds {left} bytes")
    return Stored(place, shape, dtype, in_columns, head.tell(), left, open_whole)
