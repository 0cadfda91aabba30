"""The whole way: read an export, quantize weights and activations, write a model file."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepchip.formats.csr import CSR
from deepchip.formats.errors import InputError, UnsupportedError, located
from deepchip.formats.graph import Graph, LevelWeights, Node
from deepchip.formats.model_file import read_model, write_model

from . import ranges
from .calibrate import quantize_activations
from .passes.fold_affine import fold_affine
from .passes.fuse_quantize import fuse_quantize, propagate_codes
from .passes.fuse_residual import fuse_residual
from .passes.narrow_codes import drop_bounds, narrow_codes
from .progress import Progress, silent
from .quantizers import Specification, parse
from .report import Report, make_report
from .samples import load_samples


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    weights: str = "auto",
    activations: int | str = "float",
    calibration: str | os.PathLike[str] | ArrayLike | None = None,
    calibration_rule: str = "mse",
    mean_values: Sequence[float] = (0.0,),
    scale_values: Sequence[float] = (255.0,),
    keep_float: Collection[str] = (),
    encoding: str = "auto",
    progress: Progress = silent,
) -> Report:
    """Convert an exported network to a model file.

    Parameters
    ----------
    source : .onnx file, or .h5 / .hdf5 file of a whole Keras 2 model
    target : model file to write; what is there stays whole until the new one is complete
    weights : "auto" keeps tensors of at most 256 distinct values, each used twice or more on
        average, exactly as levels, and the others as floats; "ternary" ("ttq:0.05"), "twn",
        "nary:L", "kmeans:L", "uniform:B" quantize every layer, with ",per-channel" each output
        channel by itself; "float" quantizes none
    activations : "float", or 1 to 8 bits for what layers of levels read; what the export itself
        quantizes stays as it states
    calibration : sample inputs, needed for bits: an array [N, ...], a .npy or .npz file, or a
        folder of images
    calibration_rule : "mse", least squared error, or "percentile:P", clip beyond the percentile
    mean_values, scale_values : how pixels of a folder of images become inputs, for all channels or
        for each: (pixel - mean) / scale with pixels from 0 to 255; by default 0..1
    keep_float : names of layers whose weights stay float
    encoding : "auto", the smallest, or "csr", "runlength", "huffman"
    progress : wraps long iterations; `converter.progress.bar` shows a bar

    Returns
    -------
    Report
        Size, density and error of each layer; `str()` of it is a table.

    Raises
    ------
    InputError
        An argument is wrong.
    UnsupportedError, InvalidModelError
        The export holds something this release does not do, or is damaged.
    OSError
        A file cannot be read or written.
    """
    specification, bits, choose = check_options(weights, activations, calibration, calibration_rule)
    path = Path(source)
    original = _reader(path)(path)
    with located(path.name):
        graph = fuse_quantize(original)
        graph = propagate_codes(narrow_codes(graph))
        quantized = quantize_weights(graph, specification, keep_float, progress)
        graph = fold_affine(quantized)
        if bits is not None:
            samples = _samples(graph, calibration, mean_values, scale_values)
            graph = quantize_activations(graph, bits, samples, choose, progress)
        graph = fuse_residual(drop_bounds(graph))
        write_model(graph, target, encoding)
    return make_report(original, quantized, read_model(target), Path(target))


def check_options(
    weights: str, activations: int | str, calibration: object, calibration_rule: str
) -> tuple[Specification, int | None, ranges.Choose]:
    """Return what the options mean, or raise InputError; no file is touched."""
    specification = parse(weights)
    bits = _bits(activations)
    if bits is not None and calibration is None:
        raise InputError(
            f"activations of {bits} bits need calibration: sample inputs as an array, a .npy or "
            ".npz file, or a folder of images"
        )
    return specification, bits, ranges.parse(calibration_rule)


def _samples(
    graph: Graph, calibration: Any, mean: Sequence[float], scale: Sequence[float]
) -> NDArray[np.float32]:
    if len(graph.inputs) != 1:
        raise UnsupportedError(f"calibration of {len(graph.inputs)} inputs; one is supported")
    return load_samples(calibration, graph.values[graph.inputs[0]].shape, mean, scale)


def _bits(activations: int | str) -> int | None:
    text = str(activations)
    if text == "float":
        return None
    if text.isdecimal() and 1 <= int(text) <= 8:
        return int(text)
    raise InputError(f"activations are {activations!r}, expected float or 1 to 8 bits")


def _reader(path: Path) -> Callable[[Path], Graph]:
    """Return the reader for a file, by its suffix; readers are imported when they are needed."""
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from .readers.onnx import read_onnx

        return read_onnx
    if suffix in (".h5", ".hdf5"):
        from .readers.keras_hdf5 import read_keras

        return read_keras
    raise UnsupportedError(f"{path.name}: only .onnx, .h5 and .hdf5 files can be converted")


def quantize_weights(
    graph: Graph, specification: Specification, keep_float: Collection[str], progress: Progress
) -> Graph:
    """Return the graph with the weights of every layer not in `keep_float` as levels."""
    layers = {node.name for node in graph.layers()}
    unknown = sorted(set(keep_float) - layers)
    if unknown:
        raise InputError(f"no layers {unknown} to keep float; there are {sorted(layers)}")
    nodes: list[Node] = []
    todo: Sequence[Node] = graph.nodes
    for node in progress(todo, "quantizing"):
        weight = node.tensors.get("weight")
        if weight is None or isinstance(weight, LevelWeights) or node.name in keep_float:
            nodes.append(node)
            continue
        levels = specification.quantize(weight.reshape(len(weight), -1), node.name)
        nonzeros = np.count_nonzero(levels.codes) if levels is not None else 0
        exact = specification.method == "auto"
        if levels is not None and not (exact and 2 * levels.levels.size > nonzeros):
            # (A small float tensor has few values too, but each of them once.)
            csr = CSR.from_dense(levels.codes)
            node = node.with_tensors(weight=LevelWeights.of(weight.shape, levels.levels, csr))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))
