"""Bounded reading of HDF5 files that Keras wrote: attributes, and arrays of floats.

Nothing outside the file is followed, and no more is allocated than the file is long: a small file
can declare large arrays, or the same one many times.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from deepchip.formats.errors import InvalidModelError, UnsupportedError
from deepchip.formats.graph import Shape
from deepchip.formats.once import once

_MOST_TEXT = 2**31
"""Bytes that the texts of one attribute may take."""


@contextmanager
def opened(source: Path | bytes) -> Iterator[Hdf5]:
    """Open a file, or one that was read.

    Raises
    ------
    InvalidModelError
        It is no HDF5 file, or is damaged.
    """
    with damage():
        file = h5py.File(io.BytesIO(source) if isinstance(source, bytes) else source, "r")
    with file:
        yield Hdf5(file, source)


@contextmanager
def damage() -> Iterator[None]:
    """Turn the errors that h5py has for a damaged file into one of ours."""
    try:
        yield
    except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        text = " ".join(str(error).split())
        raise InvalidModelError(f"damaged HDF5 file: {text}") from error


class Hdf5:
    """An open file and how much of it may still be read."""

    def __init__(self, file: h5py.File, source: Path | bytes) -> None:
        self.root = file
        self._source = source
        self._size = len(source) if isinstance(source, bytes) else source.stat().st_size
        self._unread = self._size

    def find(self, group: h5py.Group, path: str, kind: type) -> Any:
        """Return the group or dataset of a path.

        Only hard links are followed: soft and external ones can lead to other files.
        """
        found = self.look_for(group, path)
        if found is None:
            raise InvalidModelError(f"weights are missing: there is no {path!r}")
        if not isinstance(found, kind):
            raise InvalidModelError(f"{path!r} is no {kind.__name__.lower()}")
        return found

    def look_for(self, group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset | None:
        """Return what `find` finds, or None if there is nothing."""
        found: Any = group
        with damage():
            for part in path.split("/"):
                link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
                if link is None:
                    return None
                if not isinstance(link, h5py.HardLink):
                    raise InvalidModelError(f"{path!r} lies behind a link to another place")
                found = found[part]
        return found

    def array(self, data: h5py.Dataset, name: str, shape: Shape) -> NDArray[np.float32]:
        """Read an array of floats that is expected to have a shape."""
        with damage():
            if data.shape != shape:
                raise InvalidModelError(f"{name} has shape {data.shape}, expected {shape}")
            if data.dtype.kind != "f":
                raise InvalidModelError(f"{name} has dtype {data.dtype}, expected a float")
            if data.external or data.is_virtual:
                raise InvalidModelError(f"{name} is stored in another file")
            if data.id.get_create_plist().get_nfilters():
                raise InvalidModelError(
                    f"{name} is stored through filters, which Keras does not use; "
                    "h5repack -f NONE undoes them"
                )
            self._unread -= data.nbytes
            if data.id.get_storage_size() < data.nbytes or self._unread < 0:
                raise InvalidModelError(
                    f"{name} has {data.nbytes} bytes, the file does not hold them"
                )
            with np.errstate(over="ignore"):
                array: NDArray[np.float32] = np.asarray(data[()]).astype(np.float32)
        if not np.isfinite(array).all():
            raise InvalidModelError(f"{name} holds NaN or infinity")
        return array

    def texts(self, owner: h5py.Group, name: str) -> list[str] | None:
        """Return the texts of an attribute, or None if there is none.

        Where they are too many for one attribute, Keras writes `name0`, `name1` and so on.
        """
        first = self.attribute(owner, name)
        if first is not None:
            return [_text(text) for text in np.ravel(first)]
        found: list[str] = []
        number = 0
        while (part := self.attribute(owner, f"{name}{number}")) is not None:
            found += [_text(text) for text in np.ravel(part)]
            number += 1
        return found if number else None

    def attribute(self, owner: h5py.Group, name: str) -> Any:
        """Return an attribute, or None if there is none."""
        with damage():
            if name not in owner.attrs:
                return None
            attribute = owner.attrs.get_id(name)
            count = prod(attribute.shape)
            if count == 0:
                return []
            if attribute.get_storage_size() > self._size or (
                attribute.dtype.kind == "O"
                and count > 1
                and count * self._longest_text > _MOST_TEXT
            ):
                raise UnsupportedError(
                    f"attribute {name!r} of shape {attribute.shape} could take more memory than "
                    "can be trusted; save the model as .keras"
                )
            return owner.attrs[name]

    @once
    def _longest_text(self) -> int:
        """No less than the bytes of the longest text that an attribute can refer to.

        All elements of an attribute can refer to the same one. Texts lie in collections that begin
        with GCOL, a version, three zeros and their size (HDF5 File Format Specification 3.0,
        III.E).
        """
        with ExitStack() as stack:
            if isinstance(self._source, bytes):
                data: bytes | mmap = self._source
            else:
                stream = stack.enter_context(self._source.open("rb"))
                data = stack.enter_context(mmap(stream.fileno(), 0, access=ACCESS_READ))
            return max(
                (
                    int.from_bytes(data[place.end() + 4 : place.end() + 12], "little")
                    for place in re.finditer(b"GCOL", data)
                ),
                default=0,
            )


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
