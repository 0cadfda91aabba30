"""Arrays from files, never pickled objects."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.errors import InputError


def load_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a .npz file by name, or the one of a .npy file under the name "".

    Raises
    ------
    InputError
        The file is neither, is damaged, or holds Python objects.
    OSError
        It cannot be read.
    """
    path = Path(path)
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"": found}
        with found:
            return {name: np.asarray(found[name]) for name in found.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        text = str(error).splitlines()[0]
        raise InputError(f"{path.name}: no array file (.npy or .npz): {text}") from None
