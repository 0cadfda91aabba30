"""The memory that one call at a time works in."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import Value

from .arena import Buffer, allocate
from .kernels.compiled.execute import (
    ALONE,
    CALL_BITS,
    FOLLOWS,
    LEADS,
    MOST_PIECES,
    execute,
    first_state,
)
from .kernels.compiled.frame import FRAME, address, record
from .threads import Team

if TYPE_CHECKING:
    from .program import Program

Array = NDArray[Any]
PAIR = 16
"""Bytes of what `execute` reads for an operation: two addresses."""
PIECES = 8
"""Pieces of an operation for each thread: no thread waits for others longer than one takes."""
EMPTY_CALLS = 16
"""Calls without an operation, of which the shortest tells what a call takes by itself."""


class Workspace:
    """An arena, and the operations laid out over it, for one call at a time.

    Attributes
    ----------
    images, threads : items that it has room for, threads that may share the work
    views : of the inputs that are copied, and of each value that a run gives back
    """

    def __init__(self, program: Program, images: int, threads: int) -> None:
        self.images = images
        self.threads = threads
        memory = allocate(program.buffers, images, program.margin, program.scratch, threads)
        where = dict(zip(program.buffers, memory.offsets, strict=True))
        self.views = {
            name: _view(memory.arena, where[buffer], program.graph.values[name], images)
            for name, buffer in program.inside.items()
        }
        outside = {buffer: name for name, buffer in program.outside.items()}
        self._reads: dict[str, list[NDArray[Any]]] = {name: [] for name in program.outside}
        self._arena = address(memory.arena)
        records = []
        for operation in program.operations:
            fields = {
                name: where.get(value, 0) if isinstance(value, Buffer) else value
                for name, value in operation.fields.items()
            }
            records.append(record(operation.kernel.layouts[0], fields))
            for name, value in operation.fields.items():
                if isinstance(value, Buffer) and value in outside:
                    self._reads[outside[value]].append(records[-1][name])
        calls = [
            (operation.kernel.address, address(told))
            for operation, told in zip(program.operations, records, strict=True)
        ]
        # An interrupted call may leave threads behind that go on for an operation, and hold this
        # workspace: what they read and write has to live as long.
        self._kept = (memory, records, program.constants)
        self._inputs: list[Array] = []
        self._calls = np.array(calls, np.int64).reshape(-1, 2)
        self._frames = np.zeros(threads, FRAME)
        self._frames["arena"] = self._arena
        self._frames["scratch"] = memory.scratch
        self._meeting = np.zeros(2, np.int64)
        self._places = tuple(map(address, (self._calls, self._frames, self._meeting)))
        self._call = 0

    def read(self, name: str, array: Array) -> None:
        """Take the items of an input: where they are, or copied into the arena.

        An array that is not copied is kept until `run` is over.
        """
        if name in self._reads:
            self._inputs.append(array)
            for place_of_input in self._reads[name]:
                place_of_input[0] = address(array) - self._arena
        else:
            self.views[name][: len(array)] = array

    def run(self, images: int, team: Team | None) -> None:
        """Run all operations over the first `images` items, helped by a team unless it is busy."""
        self._frames["images"] = images
        if team is None or not self._shared(team):
            self._run_alone(0, len(self._calls))
        self._inputs.clear()

    def time_each(self, images: int) -> list[float]:
        """Run the operations one at a time on this thread; return the seconds that each took."""
        self._frames["images"] = images

        def seconds(first: int, operations: int) -> float:
            begin = time.perf_counter()
            self._run_alone(first, operations)
            return time.perf_counter() - begin

        call = min(seconds(0, 0) for _ in range(EMPTY_CALLS))
        found = [max(0.0, seconds(first, 1) - call) for first in range(len(self._calls))]
        self._inputs.clear()
        return found

    def _run_alone(self, first: int, count: int) -> None:
        """Run operations from the `first` on."""
        self._frames["piece"], self._frames["pieces"] = 0, 1
        calls, frame, meeting = self._places
        execute(ALONE, calls + PAIR * first, count, frame, meeting, 1, 0)

    def _shared(self, team: Team) -> bool:
        """Run all operations together with a team; return False, and do nothing, if it is busy."""
        self._call = (self._call + 2) % 2**CALL_BITS  # odd ones are of what is over
        self._meeting[:] = first_state(self._call), 0
        return team.run(partial(self._work, self._call, team.size), self._give_up)

    def _work(self, call: int, threads: int, thread: int) -> None:
        """Do a thread's part of a call; the first leads."""
        role = LEADS if thread == 0 else FOLLOWS
        calls, frame, meeting = self._places
        frame += thread * FRAME.itemsize
        pieces = min(PIECES * threads, MOST_PIECES)
        execute(role, calls, len(self._calls), frame, meeting, pieces, call)

    def _give_up(self) -> None:
        """End a call that the first thread did not lead to its end."""
        self._meeting[0] = first_state(self._call + 1)


def _view(arena: Array, offset: int, value: Value, images: int) -> Array:
    size = value.size * value.dtype.itemsize * images
    return arena[offset : offset + size].view(value.dtype).reshape(images, *value.shape)
