"""What a conversion did to each layer: its size, its zeros, and how far its weights moved."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from deepchip.formats.graph import Graph, LevelWeights
from deepchip.runtime.costs import LayerCosts, layer_costs
from deepchip.runtime.table import table


@dataclass(frozen=True)
class LayerReport:
    """One layer: its costs, and the error of its weights, |w - q| / |w| over the whole tensor."""

    costs: LayerCosts
    error: float


@dataclass(frozen=True)
class Report:
    """A conversion.

    Attributes
    ----------
    float_bytes : of all weights and biases as float32
    file_bytes : of the model file
    """

    layers: tuple[LayerReport, ...]
    float_bytes: int
    file_bytes: int

    @property
    def bits(self) -> float:
        """Bits of the file for each weight of the network."""
        weights = sum(prod(layer.costs.shape) for layer in self.layers)
        return 8 * self.file_bytes / max(1, weights)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        layers = [{**asdict(layer.costs), "error": layer.error} for layer in self.layers]
        return {"layers": layers, "float_bytes": self.float_bytes, "file_bytes": self.file_bytes}

    def __str__(self) -> str:
        """Return a table of the layers, and a line of totals."""
        rows = [
            (
                layer.costs.name,
                layer.costs.op,
                "x".join(map(str, layer.costs.shape)),
                str(layer.costs.levels or "float"),
                f"{1 - layer.costs.density:.1%}",
                layer.costs.encoding,
                f"{layer.costs.stored:,}",
                f"{layer.costs.bits:.2f}",
                f"{layer.error:.3f}" if layer.error else "exact",
            )
            for layer in self.layers
        ]
        head = ("layer", "op", "weights", "levels", "zeros", "encoding", "bytes", "bits", "error")
        return (
            f"{table(head, rows)}\n{self.float_bytes:,} bytes of float32 became a file of "
            f"{self.file_bytes:,} bytes: {self.float_bytes / self.file_bytes:.1f} times smaller, "
            f"{self.bits:.2f} bits a weight"
        )


def make_report(original: Graph, quantized: Graph, converted: Graph, target: Path) -> Report:
    """Compare the weights of the export with those before any folding, layer by layer."""
    before = {node.name: node.tensors["weight"] for node in original.layers()}
    after = {node.name: node.tensors["weight"] for node in quantized.layers()}
    layers = tuple(
        LayerReport(costs, _error(before[costs.name], after[costs.name]))
        for costs in layer_costs(converted)
    )
    tensors = (tensor for node in original.nodes for tensor in node.tensors.values())
    return Report(layers, sum(4 * prod(t.shape) for t in tensors), target.stat().st_size)


def _error(before: object, after: object) -> float:
    if before is after or not isinstance(after, LevelWeights):
        return 0.0
    assert isinstance(before, np.ndarray)
    size = float(np.linalg.norm(before))
    return float(np.linalg.norm(before - after.to_dense())) / size if size else 0.0
