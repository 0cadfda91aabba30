"""Models on Dask arrays: a model is loaded once by each process and called on each block.

>>> import dask.array as da
>>> import deepchip.dask
>>> images = da.from_zarr("images.zarr")                                        # doctest: +SKIP
>>> logits = deepchip.dask.score("net.dchip", images)                           # doctest: +SKIP
>>> logits.to_zarr("logits.zarr")                                               # doctest: +SKIP

It needs the extra `deepchip[dask]`. Import it by its name: `import deepchip` does not.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from operator import getitem
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray

from .formats.errors import InputError, located
from .formats.graph import Graph, Shape, Value
from .formats.model_file import model_bytes
from .runtime.images import Pixels, image_names
from .runtime.model import Model, load

KEPT = 4
"""Models that a process keeps loaded, those used last."""

AnyModel = Model | str | os.PathLike[str] | bytes


def score(
    model: AnyModel, array: da.Array, *, backend: str = "numba", threads: int = 1
) -> da.Array:
    """Return what a model of one input and one output gives for a Dask array.

    Parameters
    ----------
    model : a model; a path, which is read here and not by the workers; or the bytes of a model file
    array : floating-point [N, ...] of the input's shape. Its chunks along N stay, however many
        items they hold; chunks along other axes are joined.
    backend, threads : as for `deepchip.load`, of each process. A worker that has several threads
        makes as many calls at a time, each with its own `threads`.

    Returns
    -------
    float32 array [N, ...] of the output's shape, in the same chunks along N. With compiled kernels
    its bits do not depend on the chunks.

    Raises
    ------
    InputError
        Another shape or type, or a model of several inputs or outputs.
    DeepChipError, OSError
        The model cannot be loaded, which is tried here first.
    """
    graph, packed = _pack(model, backend, threads)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise InputError(
            f"the model has inputs {graph.inputs} and outputs {graph.outputs}; "
            "call run() with arrays by name"
        )
    return _outputs(graph, packed, {graph.inputs[0]: array})[graph.outputs[0]]


def run(
    model: AnyModel, arrays: Mapping[str, da.Array], *, backend: str = "numba", threads: int = 1
) -> dict[str, da.Array]:
    """Return the outputs of a model for Dask arrays by name; everything else is as in `score`.

    Outputs that are computed together, `dask.compute(outputs)`, take one call for each block.
    """
    graph, packed = _pack(model, backend, threads)
    return _outputs(graph, packed, arrays)


def images(
    folder: str | os.PathLike[str],
    shape: Shape,
    *,
    mean: Sequence[float] = (0.0,),
    scale: Sequence[float] = (255.0,),
    batch: int = 256,
) -> tuple[da.Array, list[str]]:
    """Return the images of a folder, which workers see under the same path, and their names.

    Parameters
    ----------
    folder : of images, and of folders of images
    shape : of one item of the network's input, (C, H, W) or (H, W, C)
    mean, scale : of the pixels, (pixel - mean) / scale: one number, or one a channel
    batch : images of a chunk

    Returns
    -------
    float32 array [N, *shape], and the paths of the N files relative to the folder, sorted. A broken
    image is an InputError when its chunk is computed.
    """
    names = image_names(Path(folder))
    listed = da.from_array(np.array(names, object), chunks=batch)
    array = listed.map_blocks(
        _read_images,
        Path(folder).absolute(),
        Pixels(tuple(shape), mean, scale),
        new_axis=[1, 2, 3],
        chunks=(listed.chunks[0], *shape),
        dtype=np.float32,
        meta=np.empty((0, 0, 0, 0), np.float32),
    )
    return array, names


def _read_images(names: NDArray[Any], folder: Path, pixels: Pixels) -> NDArray[np.float32]:
    return np.stack([pixels.read(folder, name) for name in names])


@dataclass(frozen=True)
class _Packed:
    """A model on its way to the workers: the bytes of its file, and how it is to be loaded."""

    data: bytes
    digest: str
    backend: str
    threads: int

    def loaded(self) -> Model:
        """Return the model of this process."""
        key = (self.digest, self.backend, self.threads)
        with _lock:  # also while it loads: other threads of a worker want the same model
            if key not in _models:
                _models[key] = load(self.data, backend=self.backend, threads=self.threads)
                while len(_models) > KEPT:
                    _models.popitem(last=False)
            _models.move_to_end(key)
            return _models[key]


_models: OrderedDict[tuple[str, str, int], Model] = OrderedDict()
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)  # another thread may have held it


def _pack(model: AnyModel, backend: str, threads: int) -> tuple[Graph, Delayed]:
    """Return the graph of a model, and the one task that every call of it will depend on.

    As a task of its own its bytes travel to each worker once; and, unlike what `Client.scatter`
    hands out, the scheduler can give it again when the workers that hold it are gone.
    """
    if isinstance(model, Model):
        data, place = model_bytes(model.graph), "model"
    elif isinstance(model, bytes):
        data, place = model, "model"
    else:
        data, place = Path(model).read_bytes(), Path(model).name
    packed = _Packed(data, hashlib.sha256(data).hexdigest(), backend, threads)
    with located(place):
        graph = packed.loaded().graph  # whatever is wrong with it is said before the work begins
    name = f"deepchip-model-{packed.digest}-{backend}-{threads}"
    return graph, delayed(packed, name=name, traverse=False)


def _outputs(graph: Graph, packed: Delayed, arrays: Mapping[str, da.Array]) -> dict[str, da.Array]:
    if set(arrays) != set(graph.inputs):
        raise InputError(f"inputs {sorted(arrays)} were given, expected {sorted(graph.inputs)}")
    axes = count(1)  # numbers of all axes; 0 is the items, which all inputs share
    pairs: list[Any] = []
    for name, array in arrays.items():
        joined = _joined(graph.values[name], array)
        pairs += [joined, (0, *islice(axes, joined.ndim - 1))]
    # Blocks of `calls` are dictionaries: what one call gives.
    calls = da.blockwise(
        *(_call, (0,), packed, None, tuple(arrays), None, *pairs),
        concatenate=True,
        dtype=object,
        meta=np.empty(0, object),
    )
    return {name: _output(graph.values[name], calls) for name in graph.outputs}


def _joined(value: Value, array: da.Array) -> da.Array:
    """Return an input whose blocks hold whole items."""
    if array.dtype.kind != "f" or array.shape[1:] != value.shape or array.ndim == 0:
        raise InputError(
            f"input {value.name!r} is {array.dtype} {array.shape}, expected float32 "
            f"{('N', *value.shape)}"
        )
    return array.rechunk(dict.fromkeys(range(1, array.ndim), -1))


def _output(value: Value, calls: da.Array) -> da.Array:
    axes = tuple(range(1, 1 + len(value.shape)))
    return da.blockwise(
        *(getitem, (0, *axes), calls, (0,), value.name, None),
        new_axes=dict(zip(axes, value.shape, strict=True)),
        dtype=value.dtype,
        meta=np.empty((0,) * (1 + len(axes)), value.dtype),
    )


def _call(
    packed: _Packed, names: tuple[str, ...], *blocks: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    return packed.loaded().run(dict(zip(names, blocks, strict=True)))
