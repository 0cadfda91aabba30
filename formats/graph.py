"""What a network is: values, nodes and their tensors, as frozen dataclasses.

Every shape is the shape of one item; the batch is axis 0 of every array and is not written down.
A value that carries a `Quantization` is held as uint8 codes, any other as float32. A node computes
on real numbers, whatever form its inputs have, and gives its output in the form the output states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from .csr import CSR, SIZE_LIMIT
from .errors import InvalidModelError
from .once import once

Shape = tuple[int, ...]
Attribute = int | float | tuple[int, ...]


@dataclass(frozen=True)
class Quantization:
    """How a uint8 code stands for a real number: `real = scale * (code - zero_point)`.

    Attributes
    ----------
    scale : a float32, in [2**-100, 2**100]: products with codes neither vanish nor overflow
    zero_point : the code of 0.0, in [0, 2**bits)
    bits : 1 to 8
    """

    scale: float
    zero_point: int
    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise InvalidModelError(f"activations of {self.bits} bits; 1 to 8 can be codes")
        if not 0 <= self.zero_point <= self.maximum:
            raise InvalidModelError(
                f"zero point {self.zero_point} is no code of {self.bits} bits (0 to {self.maximum})"
            )
        if not 2.0**-100 <= self.scale <= 2.0**100 or float(np.float32(self.scale)) != self.scale:
            raise InvalidModelError(
                f"scale {self.scale!r} is not a float32 between 2**-100 and 2**100"
            )

    @property
    def maximum(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest real number that a code stands for."""
        scale = np.float32(self.scale)
        low, high = -self.zero_point, self.maximum - self.zero_point
        return float(scale * np.float32(low)), float(scale * np.float32(high))


@dataclass(frozen=True)
class Value:
    """An array between nodes: float32, or uint8 codes where it carries a quantization."""

    name: str
    shape: Shape
    quantization: Quantization | None = None

    @property
    def size(self) -> int:
        """Elements of one item."""
        return prod(self.shape)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The dtype that holds it."""
        return np.dtype(np.float32 if self.quantization is None else np.uint8)


@dataclass(frozen=True)
class LevelWeights:
    """Weights of a few levels: `weight[m, k] = gain[m] * level[code - 1]`, 0 where the code is 0.

    Attributes
    ----------
    shape : the tensor's own shape, (M, C, kh, kw) or (M, K)
    levels : float32 [L], or [M, L] for levels of each output channel; ascending
    nonzeros : how many codes are not zero
    rows : gives the codes of the matrix [M, K] that the tensor flattens to, in consecutive groups
        of as many rows as it is told, 1 or more (the last group may be smaller). Weights of a file
        read and decode their streams each time, as the iteration goes on: a network is never held
        decoded as a whole. Damage is raised in between, at the latest when the iteration ends.
    gain : float32 [M] or None; a batch normalization folded into the layer, so that the levels
        that were trained stay as they are
    encoding, stored : how a file holds them and in how many bytes; "" and 0 if none does
    """

    shape: Shape
    levels: NDArray[np.float32]
    nonzeros: int
    rows: Callable[[int], Iterator[CSR]]
    gain: NDArray[np.float32] | None = None
    encoding: str = ""
    stored: int = 0

    @classmethod
    def of(cls, shape: Shape, levels: NDArray[np.float32], csr: CSR) -> LevelWeights:
        """Return weights that hold their codes decoded."""
        return cls(shape, levels, len(csr.codes), csr.row_groups)

    def decode(self) -> CSR:
        """Return the codes of the whole matrix."""
        (csr,) = self.rows(SIZE_LIMIT)
        return csr

    @property
    def density(self) -> float:
        """Share of weights that are not zero."""
        return self.nonzeros / max(1, prod(self.shape))

    @property
    def row_levels(self) -> NDArray[np.float32]:
        """The levels of every output channel, float32 [M, L]."""
        return np.broadcast_to(self.levels, (self.shape[0], self.levels.shape[-1]))

    def to_dense(self) -> NDArray[np.float32]:
        """Return the float32 tensor that these weights stand for."""
        codes = self.decode().to_dense()
        table = np.concatenate(
            [np.zeros((len(codes), 1), np.float32), self.row_levels], axis=1, dtype=np.float32
        )
        dense = np.take_along_axis(table, codes.astype(np.intp), axis=1)
        if self.gain is not None:
            dense = dense * self.gain[:, None]
        return dense.reshape(self.shape)


Tensor = NDArray[np.float32] | LevelWeights


@dataclass(frozen=True)
class Node:
    """One operation: `op` names an entry of `operators.OPERATORS`, which says what it may carry."""

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def with_tensors(self, **tensors: Tensor) -> Node:
        """Return a copy with `tensors` added or replaced."""
        return replace(self, tensors={**self.tensors, **tensors})


@dataclass(frozen=True)
class Graph:
    """A network: its nodes in an order in which they can run.

    `values` describes every input and every node's output. Outputs of the graph are float32.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, Value]
    nodes: tuple[Node, ...]

    @once
    def producers(self) -> Mapping[str, Node]:
        """The node that gives each value; inputs of the graph have none."""
        return {node.output: node for node in self.nodes}

    @once
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value, a node once however often it reads it."""
        readers: dict[str, list[Node]] = {name: [] for name in self.values}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    def only_consumer(self, name: str) -> Node | None:
        """The one node that reads a value, or None if several do, none does or it is an output."""
        readers = self.consumers[name]
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def layers(self) -> Iterator[Node]:
        """The nodes that hold weights, in order."""
        return (node for node in self.nodes if "weight" in node.tensors)
