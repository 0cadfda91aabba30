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

from deepchip.formats.errors import UnsupportedError
from deepchip.formats.graph import Graph
from deepchip.formats.jit import Kernel

from .arena import LINE, Buffer, place
from .kernels.compiled.execute import execute
from .kernels.compiled.frame import address
from .kernels.compiled.tile import Geometries
from .threads import Team
from .workspace import Workspace

Array = NDArray[Any]

MOVED_A_NANOSECOND = 10.0
"""Bytes that an operation is taken to move in a nanosecond: 10 GB/s. This and the other costs were
measured on one core of a server of 2023; what they are for is to compare."""

SHARED_BYTES = 2**15
"""Bytes up to which constants are looked for among those that are kept."""


@dataclass(frozen=True)
class Operation:
    """A kernel and what it is told; buffers among the fields become offsets into the arena.

    Attributes
    ----------
    name : of the node that it belongs to
    cost : nanoseconds for an item on one core, estimated
    reason : why this kernel was chosen, where there was a choice
    exact : whether it reads nothing that lies beside its inputs
    constants : bytes of weights and other constants that it reads
    """

    name: str
    kernel: Kernel
    fields: Mapping[str, Any]
    cost: float
    reason: str
    exact: bool
    constants: int


@dataclass
class Assembler:
    """Collects operations, the buffers that they work on, and the constants that they read.

    Attributes
    ----------
    name : the node whose operations are being emitted
    scratch : bytes that a thread needs for itself
    margin : bytes before and behind the arena that vectors may be read from
    room : bytes that constants may still take
    geometries : of its convolutions
    """

    name: str = ""
    buffers: list[Buffer] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    constants: list[Array] = field(default_factory=list)
    scratch: int = LINE
    margin: int = 512
    room: int = 2**31
    geometries: Geometries = field(default_factory=Geometries)
    _counted: int = 0
    _shared: dict[bytes | int, int] = field(default_factory=dict)

    def buffer(self, size: int) -> Buffer:
        """Return a new part of the arena, of `size` bytes an item."""
        self.buffers.append(Buffer(size))
        return self.buffers[-1]

    def constant(self, array: Array) -> int:
        """Keep an array as long as the program, and return its address.

        One that is given again is kept once, and small ones that hold the same bytes are.

        Raises
        ------
        UnsupportedError
            There is no room for it.
        """
        small = array.nbytes <= SHARED_BYTES
        key = array.tobytes() if small else id(array)
        if key not in self._shared:
            self.room -= array.nbytes
            if self.room < 0:
                raise UnsupportedError(
                    f"takes {array.nbytes} bytes, {-self.room} more than the network may take "
                    "beyond what its weights account for"
                )
            array = np.ascontiguousarray(array)
            self.constants.append(array)
            self._shared[key if small else id(array)] = address(array)
            return address(array)
        return self._shared[key]

    def floats(self, array: Array) -> int:
        """Keep an array likewise, as float32."""
        return self.constant(np.asarray(array, np.float32))

    def emit(
        self,
        kernel: Kernel,
        *,
        scratch: int = 0,
        margin: int = 0,
        cost: float = 0.0,
        reason: str = "",
        exact: bool = False,
        **fields: Any,
    ) -> None:
        """Add an operation, see `Operation`. It reads or writes every buffer among its fields."""
        for value in fields.values():
            if isinstance(value, Buffer):
                value.used(len(self.operations))
                cost += value.size / MOVED_A_NANOSECOND
        new = sum(array.nbytes for array in self.constants[self._counted :])
        self._counted = len(self.constants)
        self.operations.append(Operation(self.name, kernel, fields, cost, reason, exact, new))
        self.scratch = max(self.scratch, scratch)
        self.margin = max(self.margin, margin)


class Program:
    """A graph ready to run, for slices of a batch of any size up to `slice`.

    Attributes
    ----------
    operations : what is done, in order
    slice : how many items are run together
    """

    SLICE_BYTES = 2**21
    """About how much the arena of a slice may take: what stays in the caches near a core."""
    MAX_SLICE = 64
    """Items of a slice: more of them would take memory, and win nothing any more."""
    MAX_FREE = 4
    """Workspaces that are kept for later calls; more calls at a time make, and drop, their own."""
    WORTH_WAKING = 300_000.0
    """Nanoseconds of work from which on other threads are woken, which takes about 50,000."""

    def __init__(self, graph: Graph, assembler: Assembler, values: Mapping[str, Buffer]) -> None:
        self.graph = graph
        self.operations = tuple(assembler.operations)
        self.scratch = -(-assembler.scratch // LINE) * LINE
        self.margin = -(-assembler.margin // LINE) * LINE
        self.outside = self._read_where_they_are(values)
        self.inside = {name: b for name, b in values.items() if name not in self.outside}
        outside = set(self.outside.values())
        self.buffers = [buffer for buffer in assembler.buffers if buffer not in outside]
        self.constants = assembler.constants
        self._free: deque[Workspace] = deque(maxlen=self.MAX_FREE)
        self._teams: dict[int, Team] = {}
        self._closed = False
        self._cost = sum(operation.cost for operation in self.operations)
        self.slice, most = self.MAX_SLICE, self.arena_bytes(self.MAX_SLICE)
        while self.slice > 1 and most > self.SLICE_BYTES:
            self.slice, most = self.slice // 2, most // 2

    def _read_where_they_are(self, values: Mapping[str, Buffer]) -> dict[str, Buffer]:
        """Return the inputs that no operation reads beyond: they need not be copied."""
        beyond = {
            value
            for operation in self.operations
            if not operation.exact
            for value in operation.fields.values()
            if isinstance(value, Buffer)
        }
        found = {}
        for name in self.graph.inputs:
            buffer = values[name]
            kept = buffer.last == len(self.operations)  # an output, or an alias of it is
            if not kept and buffer not in beyond:
                found[name] = buffer
        return found

    def compile(self) -> None:
        """Compile every kernel now, or take it from the cache, and not in a user's call."""
        for operation in self.operations:
            _ = operation.kernel.address
        execute.compile()

    @property
    def executed_bytes(self) -> int:
        """Bytes of weights and other constants in the form that kernels read."""
        return sum(array.nbytes for array in self.constants)

    def arena_bytes(self, images: int = 1) -> int:
        """Return the bytes of the arena for a slice of `images` items."""
        return place(self.buffers, images)[1]

    def run(
        self, inputs: Mapping[str, Array], wanted: Sequence[str], threads: int = 1
    ) -> dict[str, Array]:
        """Do what `Plan.run` says; `threads` share every operation, where there is enough of it."""
        batch = len(next(iter(inputs.values())))
        values = self.graph.values
        results = {
            name: np.empty((batch, *values[name].shape), values[name].dtype) for name in wanted
        }
        for start in range(0, batch, self.slice):
            stop = min(start + self.slice, batch)
            items = {name: array[start:stop] for name, array in inputs.items()}
            workspace = self._run_slice(items, stop - start, threads)
            for name, result in results.items():
                result[start:stop] = workspace.views[name][: stop - start]
            self._free.append(workspace)
        return results

    def close(self) -> None:
        """End its threads and let kept memory go; calls in progress go on, and end what is left."""
        self._closed = True
        for team in list(self._teams.values()):
            team.close()
        self._free.clear()

    def _run_slice(self, items: Mapping[str, Array], count: int, threads: int) -> Workspace:
        """Return the workspace that holds what `count` items give."""
        team = self._team(count, threads)
        workspace = self._workspace(count, 1 if team is None else team.size)
        for name, array in items.items():
            workspace.read(name, array)
        workspace.run(count, team)
        return workspace

    def _team(self, images: int, threads: int) -> Team | None:
        """Return the threads to help with so many items, or None where that is not worth while."""
        if self._closed or threads == 1 or images * self._cost < self.WORTH_WAKING:
            return None
        if threads not in self._teams:
            self._teams.setdefault(threads, Team(threads))
        return self._teams[threads]

    def _workspace(self, images: int, threads: int) -> Workspace:
        """Return one with room for so much that nobody else has, kept or new.

        Without a lock, which a process that is forked meanwhile could inherit locked: every step
        on the deque is whole. One that is too small goes where the next to be dropped are.
        """
        for _ in range(self.MAX_FREE):
            try:
                workspace = self._free.pop()
            except IndexError:
                break
            if workspace.images >= images and workspace.threads >= threads:
                return workspace
            self._free.appendleft(workspace)
        return Workspace(self, min(self.slice, 1 << (images - 1).bit_length()), threads)
