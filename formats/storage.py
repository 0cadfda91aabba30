"""Where the bytes of a model file are, and the streams in them, which are read when asked for."""

from __future__ import annotations

import os
import stat
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, InvalidModelError
from .memory import pages

Bytes = NDArray[np.uint8]
Source = str | os.PathLike[str] | bytes | BinaryIO

PART = 2**16
"""Bytes that are read at a time."""


@dataclass(frozen=True)
class Stream:
    """Bytes of a known number that are read, and compared with their digest, each time anew."""

    size: int
    read: Callable[[], Bytes]


class Storage(Protocol):
    """The bytes of a file, to be read from several threads at a time."""

    size: int

    def read(self, start: int, count: int) -> Bytes:
        """Return `count` bytes from `start` on.

        Raises
        ------
        InvalidModelError
            The file has become shorter.
        """


def storage_of(source: Source) -> Storage:
    """Open a path, take bytes as they are, or read a binary file object from its beginning."""
    if isinstance(source, (str, os.PathLike)):
        return _Opened(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _Held(bytes(source))
    source.seek(0)
    data = source.read()
    if not isinstance(data, bytes):
        raise InputError(f"a file object gives {type(data).__name__}; open it in binary mode")
    return _Held(data)


class _Held:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, start: int, count: int) -> Bytes:
        return np.frombuffer(self._data, np.uint8, count, start)


class _Opened:
    """A file that stays open, and so readable when another is put in its place, while it is used.

    Nothing depends on the position of the descriptor, which threads and forked processes share.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if stat.S_ISFIFO(os.stat(path).st_mode):  # to open it would wait for a writer
            raise InputError("a pipe, which cannot be read from any place; copy it to a file first")
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed by the finalizer)
        weakref.finalize(self, self._file.close)
        self.size = os.fstat(self._file.fileno()).st_size
        self._seeking = threading.Lock()

    def read(self, start: int, count: int) -> Bytes:
        data = pages(count) if count > PART else np.empty(count, np.uint8)
        done = 0
        while done < count:
            part = self._read_some(start + done, min(count - done, PART))
            if not part:
                raise InvalidModelError(
                    f"the file ends {count - done} bytes too early: it was cut off while it was "
                    "in use"
                )
            data[done : done + len(part)] = np.frombuffer(part, np.uint8)
            done += len(part)
        data.flags.writeable = False
        return data

    def _read_some(self, start: int, count: int) -> bytes:
        if sys.platform == "win32":
            with self._seeking:
                self._file.seek(start)
                return self._file.read(count)
        return os.pread(self._file.fileno(), count, start)
