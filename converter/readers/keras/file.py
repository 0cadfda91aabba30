"""Reads Keras models: .keras and .weights.h5 files of Keras 3, .h5 files of Keras 2 and 3."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py

from deepchip.formats.errors import InputError, InvalidModelError, UnsupportedError, located
from deepchip.formats.graph import Graph

from .config import parse
from .hdf5 import Hdf5, opened
from .network import import_model
from .weights import Keras2Weights, Keras3Weights
from .zip import Members, is_zip

_MOST_CONFIG = 2**22
"""Bytes of a config; networks of a thousand layers take about 2 MB."""
_MOST_BRACKETS = 2**18
"""Lists and objects in it, of which such networks have 50,000: each takes 3 bytes at least in the
text, and a hundred in memory."""


def read_keras(path: str | os.PathLike[str], config: str | os.PathLike[str] | None = None) -> Graph:
    """Read a Keras file as a graph of float32 tensors.

    Inputs and outputs have the shapes that they have in Keras; between them, images are (channels,
    height, width). Nodes and values are named after the layers, those of nested models after both.
    Layers that act in training only are left out, and so is the optimizer's state. Weights that
    Larq quantizes take the values that its quantizers give them.

    Parameters
    ----------
    path : a model, `model.save("net.keras")` or `model.save("net.h5")`, or weights only,
        `model.save_weights("net.weights.h5")` or, of Keras 2, `model.save_weights("net.h5")`
    config : for weights only, a file with the text that `model.to_json()` gives

    Raises
    ------
    InputError
        There is no such file, it cannot be read, or weights come without a config, or a model with
        one.
    InvalidModelError
        It is no Keras file, is damaged, contradicts itself, or holds NaN or infinite weights.
    UnsupportedError
        It holds layers or settings that DeepChip has no counterpart for; these are named all at
        once.
    """
    path = Path(path)
    given = None if config is None else _config_of(Path(config))
    with located(path.name):
        size = _size(path)
        name = path.name.removesuffix(path.suffix).removesuffix(".weights")
        if is_zip(path):
            return _read_zip(path, size, name, given)
        if not h5py.is_hdf5(path):
            raise InvalidModelError("neither a .keras file nor an HDF5 file; expected one of Keras")
        with opened(path) as file:
            return _read_hdf5(file, name, given)


def _size(path: Path) -> int:
    try:
        with path.open("rb"):
            return path.stat().st_size
    except FileNotFoundError:
        raise InputError("no such file") from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error


def _config_of(path: Path) -> Any:
    with located(path.name):
        size = _size(path)
        if size > _MOST_CONFIG:
            raise InvalidModelError(f"has {size} bytes, a config {_MOST_CONFIG} at most")
        return _json(path.read_bytes(), "the config")


def _json(text: Any, what: str) -> Any:
    """Return what a text in JSON says, if it is not so much that no config has it."""
    data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    if not isinstance(data, bytes):
        raise InvalidModelError(f"{what} is no text")
    brackets = data.count(b"[") + data.count(b"{")
    if len(data) > _MOST_CONFIG or brackets > _MOST_BRACKETS:
        raise InvalidModelError(
            f"{what} has {len(data)} bytes and {brackets} lists and objects, expected "
            f"{_MOST_CONFIG} and {_MOST_BRACKETS} at most"
        )
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidModelError(f"{what} is not JSON: {error}") from error


def _read_zip(path: Path, size: int, name: str, given: Any) -> Graph:
    """A .keras file: metadata.json, config.json and model.weights.h5."""
    _refuse(given)
    with path.open("rb") as stream:
        members = Members(stream, size)
        metadata = _json(members.read("metadata.json", _MOST_CONFIG), "metadata.json")
        config = _json(members.read("config.json", _MOST_CONFIG), "config.json")
        weights = members.read("model.weights.h5", members.most)
    model = parse(config, _major(metadata))
    with opened(weights) as file:
        return import_model(name, model, Keras3Weights(file, model))


def _read_hdf5(file: Hdf5, name: str, given: Any) -> Graph:
    if file.attribute(file.root, "backend") in ("theano", b"theano"):
        raise UnsupportedError(
            "written with the Theano backend, which flips kernels; "
            "load it with the TensorFlow backend and save it again"
        )
    text = file.attribute(file.root, "model_config")
    version = file.attribute(file.root, "keras_version")
    if text is not None:
        _refuse(given)
        model = parse(_json(text, "model_config"), _major({"keras_version": version}))
        group = file.find(file.root, "model_weights", h5py.Group)
        return import_model(name, model, Keras2Weights(file, group, model))
    flat = file.texts(file.root, "layer_names") is not None
    grouped = any(
        file.look_for(file.root, group) is not None
        for group in ("layers", "_layer_checkpoint_dependencies")
    )
    if not flat and not grouped:
        raise InvalidModelError("no attribute model_config; this is no model that Keras wrote")
    if given is None:
        raise InputError(
            "holds weights only; write what model.to_json() gives to a file, "
            "and name it with --keras-config"
        )
    model = parse(given, _major(given) if version is None else _major({"keras_version": version}))
    weights = Keras2Weights(file, file.root, model) if flat else Keras3Weights(file, model)
    return import_model(name, model, weights)


def _refuse(config: Any) -> None:
    if config is not None:
        raise InputError("holds a whole model; a config belongs to files of weights only")


def _major(holder: Any) -> int:
    """Return 2 or 3, the version of Keras that wrote a config; Keras 3's to_json says none."""
    version = holder.get("keras_version") if isinstance(holder, dict) else None
    text = version.decode(errors="replace") if isinstance(version, bytes) else str(version)
    return 2 if text[:2] in ("1.", "2.") else 3
