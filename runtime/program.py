"""Programs: a graph as a list of operations over one arena, run by one compiled function.

A kernel is compiled when a graph first asks for it. An operation costs a call through its kernel's
address; Python is left once for each slice of a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import Graph, Value
from deepchip.formats.jit import Kernel

from .arena import LINE, Buffer, place
from .kernels.compiled.execute import execute
from .kernels.compiled.frame import FRAME, address, record

Array = NDArray[Any]


@dataclass(frozen=True)
class Operation:
    """A kernel and what it is told; buffers among the fields become offsets into the arena."""

    name: str
    kernel: Kernel
    fields: Mapping[str, Any]


@dataclass
class Assembler:
    """Collects operations, the buffers that they work on, and the constants that they read.

    Attributes
    ----------
    name : the node whose operations are being emitted
    scratch : bytes that a thread needs for itself
    margin : bytes before and behind the arena that vectors may be read from
    """

    name: str = ""
    buffers: list[Buffer] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    constants: list[Array] = field(default_factory=list)
    scratch: int = LINE
    margin: int = 512

    def buffer(self, size: int) -> Buffer:
        """Return a new part of the arena, of `size` bytes an item."""
        self.buffers.append(Buffer(size))
        return self.buffers[-1]

    def constant(self, array: Array) -> int:
        """Keep an array as long as the program, and return its address."""
        self.constants.append(np.ascontiguousarray(array))
        return address(self.constants[-1])

    def floats(self, array: Array) -> int:
        """Keep an array likewise, as float32."""
        return self.constant(np.asarray(array, np.float32))

    def emit(
        self, kernel: Kernel, *, scratch: int = 0, margin: int = 0, **fields: Buffer | float
    ) -> None:
        """Add an operation. It reads or writes every buffer among its fields."""
        for value in fields.values():
            if isinstance(value, Buffer):
                value.used(len(self.operations))
        self.operations.append(Operation(self.name, kernel, fields))
        self.scratch = max(self.scratch, scratch)
        self.margin = max(self.margin, margin)


class Program:
    """A graph ready to run, for slices of a batch of any size up to `slice`.

    Attributes
    ----------
    operations : what is done, in order
    slice : how many items are run together
    """

    SLICE_BYTES = 2**25
    """About how much the arena of a slice may take."""
    MAX_SLICE = 64
    """Items of a slice: more of them would take memory, and win nothing any more."""
    MAX_FREE = 4
    """Workspaces that are kept for later calls; more calls at a time make, and drop, their own."""

    def __init__(self, graph: Graph, assembler: Assembler, values: Mapping[str, Buffer]) -> None:
        self.graph = graph
        self.operations = tuple(assembler.operations)
        self._values = values
        self._buffers = assembler.buffers
        self._constants = assembler.constants
        self._scratch = -(-assembler.scratch // LINE) * LINE
        self._margin = -(-assembler.margin // LINE) * LINE
        self._free: deque[Workspace] = deque(maxlen=self.MAX_FREE)
        self.slice = self.MAX_SLICE
        while self.slice > 1 and self.arena_bytes(self.slice) > self.SLICE_BYTES:
            self.slice //= 2

    def compile(self) -> None:
        """Compile every kernel now, or take it from the cache, and not in a user's call."""
        for operation in self.operations:
            _ = operation.kernel.address
        execute(0, 0, 0, 0)

    @property
    def executed_bytes(self) -> int:
        """Bytes of weights and other constants in the form that kernels read."""
        return sum(array.nbytes for array in self._constants)

    def arena_bytes(self, images: int = 1) -> int:
        """Return the bytes of the arena for a slice of `images` items."""
        return place(self._buffers, images)[1]

    def run(
        self, inputs: Mapping[str, Array], wanted: Sequence[str], threads: int = 1
    ) -> dict[str, Array]:
        """Return the `wanted` values for a batch.

        Parameters
        ----------
        inputs : arrays [N, ...] of the graph's inputs, float32 and C-contiguous
        wanted : outputs of the graph, or values that the plan was told to keep
        threads : how many threads share the work of every operation
        """
        batch = len(next(iter(inputs.values())))
        described = self.graph.values
        results = {
            name: np.empty((batch, *described[name].shape), described[name].dtype)
            for name in wanted
        }
        for start in range(0, batch, self.slice):
            items = slice(start, min(start + self.slice, batch))
            images = items.stop - start
            workspace = self._workspace(images, threads)
            for name, array in inputs.items():
                workspace.views[name][:images] = array[items]
            workspace.run(images)
            for name, result in results.items():
                result[items] = workspace.views[name][:images]
            self._free.append(workspace)
        return results

    def _workspace(self, images: int, threads: int) -> Workspace:
        """Return one for `images` items that nobody else has, kept or new.

        Without a lock, which a process that is forked meanwhile could inherit locked: every step
        on the deque is whole.
        """
        size = min(self.slice, 1 << (images - 1).bit_length())
        for _ in range(self.MAX_FREE):
            try:
                workspace = self._free.pop()
            except IndexError:
                break
            if (workspace.images, workspace.threads) == (size, threads):
                return workspace
            self._free.appendleft(workspace)
        return Workspace(self, size, threads)


class Workspace:
    """An arena, and the operations laid out over it, for one call at a time.

    Attributes
    ----------
    images, threads : items that it has room for, threads that share the work
    views : of each input of the graph and of each value that a run gives back
    """

    def __init__(self, program: Program, images: int, threads: int) -> None:
        self.images = images
        self.threads = threads
        offsets, size = place(program._buffers, images)
        where = dict(zip(program._buffers, offsets, strict=True))
        margin, scratch = program._margin, program._scratch
        memory = _aligned(size + 2 * margin + threads * scratch)
        arena = memory[margin : margin + size]
        self.views = {
            name: _view(arena, where[buffer], program.graph.values[name], images)
            for name, buffer in program._values.items()
        }
        self._records = [
            record(
                operation.kernel.layouts[0],
                {
                    name: where[value] if isinstance(value, Buffer) else value
                    for name, value in operation.fields.items()
                },
            )
            for operation in program.operations
        ]
        calls = [
            (operation.kernel.address, address(told))
            for operation, told in zip(program.operations, self._records, strict=True)
        ]
        self._memory = memory
        self._calls = np.array(calls, np.int64).reshape(-1, 2)
        self._frames = np.zeros(threads, FRAME)
        self._frames["arena"] = address(arena)
        self._frames["scratch"] = (
            address(arena) + size + margin + scratch * np.arange(threads, dtype=np.int64)
        )
        self._frames["thread"] = np.arange(threads)
        self._frames["threads"] = threads
        self._places = (address(self._calls), len(calls), address(self._frames))

    def run(self, images: int) -> None:
        """Run all operations over the first `images` items."""
        self._frames["images"] = images
        execute(*self._places, self.threads)


def _aligned(size: int) -> NDArray[np.uint8]:
    """Return uint8 [size] from a whole cache line on."""
    memory = np.empty(size + LINE, np.uint8)
    start = -address(memory) % LINE
    return memory[start : start + size]


def _view(arena: Array, offset: int, value: Value, images: int) -> Array:
    size = value.size * value.dtype.itemsize * images
    return arena[offset : offset + size].view(value.dtype).reshape(images, *value.shape)
