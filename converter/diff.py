"""Where a converted network departs from the network it came from: value by value, on real inputs.

Both networks see the same inputs, and every value that both have is compared, so an error that an
early layer makes is seen in all that follow; `lost` tells what the layer itself adds to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import inf, log10, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.errors import InputError
from deepchip.formats.graph import Graph, Quantization, Value
from deepchip.runtime.inputs import check_inputs
from deepchip.runtime.kernels import plain
from deepchip.runtime.plan import make_plan

from .progress import Progress, silent

F32 = NDArray[np.float32]

LIMIT = 2**27
"""Bytes that the compared values of the images of one turn may take."""


@dataclass(frozen=True)
class ValueDifference:
    """One value of both networks; r is the reference's, q the converted network's.

    Attributes
    ----------
    layer, op : the node of the converted network that gives it
    bits : of its codes; 32 for float32
    snr : signal-to-noise ratio in dB, 10 log10(sum r^2 / sum (r - q)^2); infinite if they are equal
    lost : how far `snr` lies below that of the worst of the node's inputs, in dB, 0 where it rises;
        None where its inputs are exact, or one of them is not in both networks
    cosine : sum r q / sqrt(sum r^2 sum q^2)
    saturated : share of codes at an end of their range that does not stand for 0
    """

    name: str
    layer: str
    op: str
    bits: int
    snr: float
    lost: float | None
    cosine: float
    saturated: float


@dataclass(frozen=True)
class OutputDifference:
    """One output of both networks.

    Attributes
    ----------
    largest : the largest absolute difference
    top1 : share of inputs for which the largest number stands at the same place
    """

    name: str
    snr: float
    largest: float
    top1: float


@dataclass(frozen=True)
class Difference:
    """What `difference` found; `skipped` values are in both networks, but of other shapes."""

    items: int
    values: tuple[ValueDifference, ...]
    outputs: tuple[OutputDifference, ...]
    skipped: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data; an infinite ratio is None."""
        found = asdict(self)
        for part in (*found["values"], *found["outputs"]):
            part["snr"] = None if part["snr"] == inf else part["snr"]
        return found


@dataclass
class _Sums:
    """Sums over all items of one value."""

    signal: float = 0.0
    noise: float = 0.0
    product: float = 0.0
    other: float = 0.0
    saturated: int = 0
    count: int = 0
    largest: float = 0.0
    agreeing: int = 0
    rows: int = field(default=0)

    def add(self, r: F32, q: NDArray[Any], form: Quantization | None) -> None:
        if form is not None:
            ends = (q == form.maximum) | ((q == 0) & (form.zero_point > 0))
            self.saturated += int(np.count_nonzero(ends))
            q = plain.dequantize(q, form)
        flat, others = (x.reshape(len(x), -1).astype(np.float64) for x in (r, q))
        self.signal += float((flat * flat).sum())
        self.noise += float(((flat - others) ** 2).sum())
        self.product += float((flat * others).sum())
        self.other += float((others * others).sum())
        self.count += flat.size
        self.largest = max(self.largest, float(np.abs(flat - others).max(initial=0)))
        self.agreeing += int((flat.argmax(axis=1) == others.argmax(axis=1)).sum())
        self.rows += len(flat)

    @property
    def snr(self) -> float:
        if self.noise == 0:
            return inf
        return 10 * log10(self.signal / self.noise) if self.signal else -inf

    @property
    def cosine(self) -> float:
        size = sqrt(self.signal * self.other)
        return min(1.0, self.product / size) if size else float(self.noise == 0)


def difference(
    model: Graph, reference: Graph, inputs: Mapping[str, F32], progress: Progress = silent
) -> Difference:
    """Compare two networks on the same inputs.

    Parameters
    ----------
    model, reference : the converted network, and the network as exported
    inputs : float32 [N, ...] for each input, N of 1 or more
    progress : wraps the iteration over the inputs

    Raises
    ------
    InputError
        The networks have other inputs or outputs, or the arrays do not fit them.
    """
    _check_ports(model, reference)
    arrays = check_inputs(model, inputs)
    shared = [name for name in model.producers if name in reference.producers]
    same = [n for n in shared if model.values[n].shape == reference.values[n].shape]
    plans = [make_plan(graph, "numba", keep=tuple(same)) for graph in (model, reference)]
    sums = {name: _Sums() for name in same}
    each = sum(8 * model.values[name].size for name in same)
    size = max(1, min(LIMIT // max(1, each), *(plan.slice for plan in plans)))
    total = len(next(iter(arrays.values())))
    for start in progress(range(0, total, size), "comparing"):
        items = {name: array[start : start + size] for name, array in arrays.items()}
        found, wanted = (plan.run(items, same) for plan in plans)
        for name, part in sums.items():
            part.add(_reals(wanted[name], reference.values[name]), found[name],
                     model.values[name].quantization)  # fmt: skip
    return Difference(
        total,
        tuple(_value(model, name, sums) for name in same),
        tuple(_output(name, sums[name]) for name in model.outputs),
        tuple(name for name in shared if name not in sums),
    )


def _check_ports(model: Graph, reference: Graph) -> None:
    for kind, found, wanted in (
        ("inputs", model.inputs, reference.inputs),
        ("outputs", model.outputs, reference.outputs),
    ):
        shapes = [
            {name: graph.values[name].shape for name in names}
            for graph, names in ((model, found), (reference, wanted))
        ]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"the model has {kind} {shapes[0]}, the network to compare it with {shapes[1]}; "
                "expected the network that the model was converted from"
            )


def _reals(array: NDArray[Any], value: Value) -> F32:
    form = value.quantization
    return array if form is None else plain.dequantize(array, form)


def _value(model: Graph, name: str, sums: Mapping[str, _Sums]) -> ValueDifference:
    node, part, form = model.producers[name], sums[name], model.values[name].quantization
    worst = min(_snr(model, source, sums) for source in node.inputs)
    # What reads exact inputs has no noise to compare its own with.
    lost = max(0.0, worst - part.snr) if abs(worst) != inf and part.snr != inf else None
    return ValueDifference(
        name,
        node.name,
        node.op,
        32 if form is None else form.bits,
        part.snr,
        lost,
        part.cosine,
        part.saturated / max(1, part.count),
    )


def _snr(model: Graph, name: str, sums: Mapping[str, _Sums]) -> float:
    """Return the ratio of what a node reads; codes of a value that the reference lacks are its."""
    while name not in sums and name in model.producers:
        node = model.producers[name]
        if node.op not in ("Quantize", "Dequantize"):
            return -inf
        name = node.inputs[0]
    return sums[name].snr if name in sums else inf


def _output(name: str, part: _Sums) -> OutputDifference:
    return OutputDifference(name, part.snr, part.largest, part.agreeing / max(1, part.rows))
