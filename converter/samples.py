"""Calibration inputs: an array, a .npy or .npz file, or a folder of images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepchip.formats.errors import InputError
from deepchip.formats.graph import Shape
from deepchip.runtime.arrays import load_arrays
from deepchip.runtime.images import Pixels, image_names


def load_samples(
    source: str | os.PathLike[str] | ArrayLike,
    shape: Shape,
    mean: Sequence[float] = (0.0,),
    scale: Sequence[float] = (255.0,),
) -> NDArray[np.float32]:
    """Return calibration inputs, float32 [N, *shape].

    Parameters
    ----------
    source : an array; a .npy file; a .npz file of one array, or with an array "images"; or a folder
        of images, RGB or grey, and of folders of images, which are brought to the height and width
        that `shape` states
    shape : of one item of the network's input
    mean, scale : of a folder's pixels, for all channels or for each: (pixel - mean) / scale, where
        pixels go from 0 to 255

    Raises
    ------
    InputError
        Nothing fits: the text says what was found.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        array = _from_folder(path, shape, mean, scale) if path.is_dir() else _from_file(path)
    else:
        array = np.asarray(source)
    if not np.issubdtype(array.dtype, np.floating) or array.shape[1:] != shape or not array.size:
        raise InputError(
            f"calibration inputs are {array.dtype} {array.shape}, expected float32 "
            f"{('N', *shape)}, scaled as the network was trained"
        )
    if not np.isfinite(array).all():
        raise InputError("calibration inputs hold NaN or infinity")
    return np.ascontiguousarray(array, np.float32)


def load_inputs(
    source: str | os.PathLike[str],
    shapes: Mapping[str, Shape],
    mean: Sequence[float] = (0.0,),
    scale: Sequence[float] = (255.0,),
) -> dict[str, NDArray[Any]]:
    """Return inputs by name: as `load_samples`, or for several inputs from a .npz file of them."""
    if len(shapes) > 1:
        return load_arrays(source)
    return {name: load_samples(source, shape, mean, scale) for name, shape in shapes.items()}


def _from_file(path: Path) -> NDArray[Any]:
    arrays = load_arrays(path)
    if len(arrays) > 1 and "images" in arrays:
        return arrays["images"]
    if len(arrays) != 1:
        raise InputError(
            f"{path.name}: holds arrays {sorted(arrays)}, expected one, or one called 'images'"
        )
    return next(iter(arrays.values()))


def _from_folder(
    folder: Path, shape: Shape, mean: Sequence[float], scale: Sequence[float]
) -> NDArray[np.float32]:
    names = image_names(folder)
    pixels = Pixels(shape, mean, scale)
    images = np.empty((len(names), *shape), np.float32)
    for image, name in zip(images, names, strict=True):
        image[:] = pixels.read(folder, name)
    return images
