"""What attacks call: each takes a model file's bytes, and gives back a digest of what it read."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

import deepchip
from deepchip.formats.graph import Graph, LevelWeights, Tensor
from deepchip.formats.model_file import read_model
from deepchip.formats.operators import macs

MOST_WORK = 2**20
"""Elements that a model may work on to be run as well."""
DECODED_ROWS = 64
"""Rows that are decoded at a time, as a network is never held decoded as a whole."""


def decoded(data: bytes) -> str:
    """Read a model file and decode all of it."""
    return digest(read_model(data))


def decoded_by_numba(data: bytes) -> str:
    """Do so by the compiled decoders."""
    return digest(read_model(data, compiled=True))


def digest(graph: Graph) -> str:
    """Return a digest of everything that a graph says, weights bit by bit."""
    found = hashlib.sha256()
    for part in (graph.name, graph.inputs, graph.outputs, *graph.values.values()):
        found.update(repr(part).encode())
    for node in graph.nodes:
        found.update(repr((node.name, node.op, node.inputs, node.output)).encode())
        found.update(repr(sorted(node.attributes.items())).encode())
        for name, tensor in sorted(node.tensors.items()):
            found.update(repr((name, tensor.shape)).encode())
            _add_tensor(found, tensor)
    return found.hexdigest()


def _add_tensor(found: hashlib._Hash, tensor: Tensor) -> None:
    if not isinstance(tensor, LevelWeights):
        found.update(np.ascontiguousarray(tensor).data)
        return
    for part in (tensor.levels, tensor.gain):
        found.update(b"none" if part is None else np.ascontiguousarray(part).data)
    for group in tensor.rows(DECODED_ROWS):
        for array in (group.indptr, group.indices, group.codes):
            found.update(np.ascontiguousarray(array).data)


def loaded(data: bytes) -> str:
    """Load a model for the NumPy backend."""
    return repr(deepchip.load(data, backend="numpy"))


def loaded_for_numba(data: bytes) -> str:
    """Load a model for the compiled backend."""
    return repr(deepchip.load(data, backend="numba"))


def ran_alike(data: bytes) -> str:
    """Load a model and run it on both backends, which have to agree; "" if that would take long.

    Sums over codes give the same bits (SPEC.md, Arithmetic). Where a network sums floats, in no
    fixed order, and rounds to codes after, any difference can follow: shapes alone are compared.
    """
    graph = read_model(data)
    if _work(graph) > MOST_WORK:
        return ""
    inputs = _inputs(graph)
    outputs = [deepchip.load(data, backend=backend).run(inputs) for backend in ("numpy", "numba")]
    for name in graph.outputs:
        one, other = (found[name] for found in outputs)
        assert one.shape == other.shape == (3, *graph.values[name].shape)
        assert one.dtype == other.dtype == np.float32
        assert not _is_exact(graph) or np.array_equal(one, other, equal_nan=True)
    return "ran"


def ran_unverified(data: bytes) -> str:
    """Load a model without comparing its digests, and run it by compiled kernels."""
    model = deepchip.load(data, verify=False)
    model.run(_inputs(model.graph))
    return "ran"


def _inputs(graph: Graph) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(0)
    return {
        name: random.normal(size=(3, *graph.values[name].shape)).astype(np.float32)
        for name in graph.inputs
    }


def _is_exact(graph: Graph) -> bool:
    for node in graph.nodes:
        codes = graph.values[node.inputs[0]].quantization is not None
        levels = isinstance(node.tensors.get("weight"), LevelWeights)
        if node.op in ("Conv", "FullyConnected") and not (codes and levels):
            return False
        if node.op in ("AveragePool", "Softmax") and not codes:
            return False
    return True


def _work(graph: Graph) -> int:
    """Return about how many elements a run reads, writes or multiplies."""
    return sum(
        graph.values[node.output].size + macs(node, graph.values[node.output].shape)
        for node in graph.nodes
    ) + sum(value.size for value in graph.values.values())
