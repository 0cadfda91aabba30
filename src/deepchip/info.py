"""`deepchip info`: what a model file holds and costs, layer by layer."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .formats.errors import located
from .formats.graph import Graph, Value
from .formats.model_file import read_model
from .runtime.costs import LayerCosts, layer_costs
from .runtime.plan import peak_bytes
from .runtime.table import table


def describe(path: str | os.PathLike[str], *, as_json: bool = False) -> str:
    """Return a page, or JSON, on a model file; errors as of `read_model`."""
    path = Path(path)
    with located(path.name):
        graph = read_model(path)
    layers = list(layer_costs(graph))
    size = path.stat().st_size
    if as_json:
        return json.dumps(_as_dict(graph, layers, size), indent=2)
    return _page(path.name, graph, layers, size)


def _as_dict(graph: Graph, layers: list[LayerCosts], size: int) -> dict[str, Any]:
    ports = {
        kind: [
            {"name": n, "shape": [None, *graph.values[n].shape], "dtype": "float32"} for n in names
        ]
        for kind, names in (("inputs", graph.inputs), ("outputs", graph.outputs))
    }
    return {
        "name": graph.name,
        "file_bytes": size,
        **ports,
        "value_bytes_per_item": peak_bytes(graph),
        "operators": _operators(graph),
        "layers": [asdict(layer) for layer in layers],
        "totals": _totals(layers),
    }


def _operators(graph: Graph) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in graph.nodes:
        counts[node.op] = counts.get(node.op, 0) + 1
    return dict(sorted(counts.items()))


_SUMMED = ("stored", "macs", "additions", "multiplications", "bops")


def _totals(layers: list[LayerCosts]) -> dict[str, int]:
    return {key: sum(getattr(layer, key) for layer in layers) for key in _SUMMED}


def _page(name: str, graph: Graph, layers: list[LayerCosts], size: int) -> str:
    head = (
        "layer", "op", "weights", "levels", "density", "encoding", "bytes", "bits", "act. bits",
        "MACs", "additions", "mult.", "BOPs",
    )  # fmt: skip
    totals = _totals(layers)
    rows = [
        (
            layer.name, layer.op, "x".join(map(str, layer.shape)), str(layer.levels or "float"),
            f"{layer.density:.1%}", layer.encoding, f"{layer.stored:,}", f"{layer.bits:.2f}",
            "float" if layer.activation_bits == 32 else str(layer.activation_bits),
            *(f"{getattr(layer, key):,}" for key in _SUMMED[1:]),
        )
        for layer in layers
    ]  # fmt: skip
    rows.append(
        ("total", "", "", "-", "-", "", f"{totals['stored']:,}", "-", "-",
         *(f"{totals[key]:,}" for key in _SUMMED[1:]))
    )  # fmt: skip
    ports = [
        f"{kind} {', '.join(_port(graph.values[n]) for n in names)}"
        for kind, names in (("input", graph.inputs), ("output", graph.outputs))
    ]
    operators = ", ".join(f"{n} {op}" for op, n in _operators(graph).items())
    return (
        f"{name}: {graph.name}, {size:,} bytes; {'; '.join(ports)}\n"
        f"{len(graph.nodes)} nodes: {operators}\n"
        f"values take {peak_bytes(graph):,} bytes an item; operations are for one item\n\n"
        f"{table(head, rows)}"
    )


def _port(value: Value) -> str:
    return f"{value.name!r} ({', '.join(['N', *map(str, value.shape)])})"
