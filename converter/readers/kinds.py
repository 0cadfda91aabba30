"""Which reader reads which file, by its suffix; readers are imported when they are needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from deepchip.formats.errors import InputError, UnsupportedError
from deepchip.formats.graph import Graph

Description = str | os.PathLike[str]
Read = Callable[[], Graph]


def reader_of(source: str | os.PathLike[str], description: Description | None = None) -> Read:
    """Return the function that reads an exported network, ready to be called.

    Parameters
    ----------
    source, description : as for `read.read_network`

    Raises
    ------
    InputError
        There is no such file, a description is missing, or there is none for this kind of file.
    UnsupportedError
        Another suffix, or a package is missing. What the function raises is said by the readers.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise UnsupportedError(
            f"{path.name}: only {', '.join(_READERS)} files can be converted; "
            "for other exports see docs/building_a_network.md"
        )
    for given in [path] if description is None else [path, Path(description)]:
        _check_file(given)
    return _READERS[suffix](path, description)


def _check_file(path: Path) -> None:
    """Refuse what is no file before it is opened: a pipe would never end."""
    if not path.is_file():
        what = "is no regular file" if path.exists() else "no such file"
        raise InputError(f"{path.name}: {what}")


def _onnx(path: Path, description: Description | None) -> Read:
    from .onnx.read import importer, read_onnx

    if description is not None:
        raise InputError(f"{path.name}: ONNX files describe themselves; leave {description} out")
    importer()
    return partial(read_onnx, path)


def _keras(path: Path, description: Description | None) -> Read:
    from .keras.file import read_keras

    return partial(read_keras, path, config=description)


def _deep_compression(path: Path, description: Description | None) -> Read:
    from .caffe.deep_compression import read_deep_compression

    if description is None:
        raise InputError(
            f"{path.name}: holds weights only; give the network's description with --prototxt"
        )
    return partial(read_deep_compression, path, description)


_READERS: dict[str, Callable[[Path, Description | None], Read]] = {
    ".onnx": _onnx,
    ".keras": _keras,
    ".h5": _keras,
    ".hdf5": _keras,
    ".net": _deep_compression,
}
