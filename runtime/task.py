"""What emitting a node needs to know."""

from __future__ import annotations

from dataclasses import dataclass

from deepchip.formats.graph import Node, Value

from .arena import Buffer
from .kernels.compiled import quantization
from .program import Assembler


@dataclass(frozen=True)
class Task:
    """A node, its values, where its inputs lie, and where its operations go.

    Attributes
    ----------
    relu : whether 0 is wanted where the output, float32, is negative
    """

    node: Node
    inputs: tuple[Value, ...]
    output: Value
    sources: tuple[Buffer, ...]
    assembler: Assembler
    relu: bool = False

    def reals(self) -> Buffer:
        """Return a buffer for the output as float32."""
        return self.assembler.buffer(4 * self.output.size)

    def target(self) -> Buffer:
        """Return a buffer for the output in its own form."""
        return self.assembler.buffer(bytes_of(self.output))


def bytes_of(value: Value) -> int:
    """Return what an item of a value takes."""
    return value.size * value.dtype.itemsize


def dequantized(task: Task, value: Value, source: Buffer, scale: float, zero_point: int) -> Buffer:
    """Emit scale * (code - zero_point), and return where that lies."""
    target = task.assembler.buffer(4 * value.size)
    task.assembler.emit(
        quantization.dequantize, source=source, target=target, count=value.size, scale=scale,
        zero_point=zero_point,
    )  # fmt: skip
    return target
