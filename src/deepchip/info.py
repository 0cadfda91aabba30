"""`deepchip info`: what a model file holds and costs, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .formats.errors import UnsupportedError, located
from .formats.graph import Graph, Value
from .formats.model_file import read_model
from .formats.once import once
from .page import Bar, Cell, heading, html_table, page, text
from .runtime.costs import LayerCosts, layer_costs
from .runtime.plan import peak_bytes
from .runtime.table import table

_SUMMED = (
    "stored", "macs", "additions", "multiplications", "bops", "activations", "energy",
    "float_energy",
)  # fmt: skip
_HEAD = (
    "layer", "op", "weights", "levels", "density", "encoding", "bytes", "executed", "bits",
    "act. bits", "outputs", "MACs", "additions", "mult.", "BOPs", "energy",
)  # fmt: skip
_MEANING = (
    "Operations are for one item. MACs are those of the layer were it dense; executed is what its "
    "weights take in memory here; BOPs are additions times bits of a weight's code times bits of "
    "an activation; energy is of the operations and of reading the stored weights once, by "
    "Horowitz, ISSCC 2014."
)


@dataclass(frozen=True)
class Description:
    """What a model file holds.

    Attributes
    ----------
    name, size : of the file, and its bytes
    executed : bytes of the weights of each layer as they are executed; None where Numba is missing
        or the network cannot be run
    """

    name: str
    size: int
    graph: Graph
    executed: Mapping[str, int] | None

    @once
    def layers(self) -> list[LayerCosts]:
        """What each layer costs."""
        return list(layer_costs(self.graph))

    def total(self, key: str) -> int:
        """Return the sum of a cost over the layers."""
        return round(sum(getattr(layer, key) for layer in self.layers))

    def executed_bytes(self, *layers: str) -> str:
        """Return the bytes of some layers as they are executed, as text."""
        if self.executed is None:
            return "-"
        return f"{sum(self.executed.get(layer, 0) for layer in layers):,}"


def describe(path: str) -> Description:
    """Read a model file to describe it; errors as of `read_model`."""
    with located(Path(path).name):
        graph = read_model(path)
    return Description(Path(path).name, Path(path).stat().st_size, graph, _executed(graph))


def _executed(graph: Graph) -> dict[str, int] | None:
    try:
        from .runtime.assemble import assemble
    except ImportError:  # no Numba, and so no compiled program
        return None
    try:
        operations = assemble(graph).operations
    except UnsupportedError:  # what cannot be run here can still be described
        return None
    found: dict[str, int] = {}
    for operation in operations:
        found[operation.name] = found.get(operation.name, 0) + operation.constants
    return found


def as_dict(found: Description) -> dict[str, Any]:
    """Return plain data."""
    graph = found.graph
    ports = {
        kind: [
            {"name": n, "shape": [None, *graph.values[n].shape], "dtype": "float32"} for n in names
        ]
        for kind, names in (("inputs", graph.inputs), ("outputs", graph.outputs))
    }
    executed = found.executed
    return {
        "name": graph.name,
        "file_bytes": found.size,
        **ports,
        "value_bytes_per_item": peak_bytes(graph),
        "operators": _operators(graph),
        "layers": [
            {**asdict(layer), "executed": None if executed is None else executed.get(layer.name, 0)}
            for layer in found.layers
        ],
        "totals": {key: found.total(key) for key in _SUMMED},
    }


def as_text(found: Description) -> str:
    """Return a page for the terminal."""
    rows = [_row(found, layer) for layer in found.layers]
    return f"{_summary(found)}\n\n{table(_HEAD, [*rows, _totals(found)])}\n\n{_MEANING}"


def as_html(found: Description) -> str:
    """Return a page of HTML; bars show each layer's share."""
    rows: list[list[Cell]] = []
    for layer in found.layers:
        cells: list[Cell] = list(_row(found, layer))
        for column, key in ((6, "stored"), (11, "macs"), (12, "additions"), (15, "energy")):
            share = getattr(layer, key) / max(1, found.total(key))
            cells[column] = Bar(str(cells[column]), share)
        cells[4] = Bar(str(cells[4]), layer.density)
        rows.append(cells)
    return page(
        found.name,
        *(text(line) for line in _summary(found).splitlines()),
        heading("Layers"),
        html_table(_HEAD, [*rows, list(_totals(found))]),
        text(_MEANING, soft=True),
    )


def _row(found: Description, layer: LayerCosts) -> tuple[str, ...]:
    return (
        layer.name, layer.op, "x".join(map(str, layer.shape)), str(layer.levels or "float"),
        f"{layer.density:.1%}", layer.encoding, f"{layer.stored:,}",
        found.executed_bytes(layer.name), f"{layer.bits:.2f}",
        "float" if layer.activation_bits == 32 else str(layer.activation_bits),
        count(layer.activations), count(layer.macs), count(layer.additions),
        count(layer.multiplications), count(layer.bops), joules(layer.energy),
    )  # fmt: skip


def _totals(found: Description) -> tuple[str, ...]:
    return (
        "total", "", "", "-", "-", "", f"{found.total('stored'):,}",
        found.executed_bytes(*(layer.name for layer in found.layers)), "-", "-",
        *(count(found.total(key)) for key in ("activations", *_SUMMED[1:5])),
        joules(found.total("energy")),
    )  # fmt: skip


def _summary(found: Description) -> str:
    graph = found.graph
    ports = [
        f"{kind} {', '.join(_port(graph.values[n]) for n in names)}"
        for kind, names in (("input", graph.inputs), ("output", graph.outputs))
    ]
    operators = ", ".join(f"{n} {op}" for op, n in _operators(graph).items())
    energy, dense = found.total("energy"), found.total("float_energy")
    return (
        f"{found.name}: {graph.name}, {found.size:,} bytes; {'; '.join(ports)}\n"
        f"{len(graph.nodes)} nodes: {operators}\n"
        f"values take {peak_bytes(graph):,} bytes an item; layers take {joules(energy)} an item, "
        f"{joules(dense)} were they dense and float: {dense / max(1, energy):.1f} times as much"
    )


def _operators(graph: Graph) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in graph.nodes:
        counts[node.op] = counts.get(node.op, 0) + 1
    return dict(sorted(counts.items()))


def _port(value: Value) -> str:
    return f"{value.name!r} ({', '.join(['N', *map(str, value.shape)])})"


def count(number: float) -> str:
    """Return a number of things in at most four digits.

    >>> count(416_520), count(999), count(15_470_264_320)
    ('416.5 k', '999', '15.47 G')
    """
    return _scaled(number, ("", " k", " M", " G", " T"))


def joules(picojoules: float) -> str:
    """Return an energy given in picojoules.

    >>> joules(3_330_000_000)
    '3.330 mJ'
    """
    return _scaled(picojoules, (" pJ", " nJ", " uJ", " mJ", " J"))


def _scaled(number: float, units: tuple[str, ...]) -> str:
    for unit in units:
        if number < 999.95 or unit == units[-1]:
            break
        number /= 1000
    whole = unit == units[0] and number == round(number)
    return f"{number:.0f}{unit}" if whole else f"{number:.4g}{unit}"
