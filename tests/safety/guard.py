"""The runtime in guarded memory: every buffer, constant and scratch in pages of its own.

Nothing is kept between calls, and what a call begins with is random, so that reading what was never
written changes results. Operations run one at a time, and each is told to a file before it runs.
What threads would share is done in pieces, one after the other in any order, in the memory of one
of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import deepchip.runtime.assemble
import deepchip.runtime.program
import deepchip.runtime.workspace
from deepchip.runtime.arena import Buffer, Memory
from deepchip.runtime.kernels.compiled.execute import ALONE, execute
from deepchip.runtime.kernels.compiled.frame import FRAME, address
from deepchip.runtime.program import Assembler, Program
from deepchip.runtime.threads import Team
from deepchip.runtime.workspace import PAIR, Workspace

from .pages import Block, Edge, allocate, block, constant, span


class Guard:
    """Where memory comes from.

    Parameters
    ----------
    edge : of every block, the one that is exact
    note : is told every operation before it runs

    Attributes
    ----------
    ran : how often each kernel ran
    """

    def __init__(self, edge: Edge, seed: int, note: Callable[[str], None]) -> None:
        self.edge = edge
        self.note = note
        self.ran: Counter[str] = Counter()
        self._random = np.random.default_rng(seed)
        self._blocks: list[Block] = []

    def constant(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array that cannot be written, and beyond which nothing can be read."""
        begins = self.edge in (Edge.BODY_BEGINS, Edge.MARGIN_BEGINS)
        return constant(array, Edge.BODY_BEGINS if begins else Edge.BODY_ENDS)

    def allocate(
        self, buffers: Sequence[Buffer], images: int, margin: int, scratch: int, threads: int
    ) -> Memory:
        """Take the place of `arena.allocate`."""
        wanted = [(buffer.size * images, margin) for buffer in buffers]
        wanted += [(scratch, 0)] * threads
        spans = [span(*each) for each in wanted]
        starts = np.concatenate([[0], np.cumsum(spans)])
        pages = allocate(int(starts[-1]))
        blocks = []
        for (size, around), start, length in zip(wanted, starts, spans, strict=False):
            own = pages[start : start + length]
            blocks.append(block(own, size, around, self.edge, self._random))
        self._blocks = blocks
        places = [int(start) + one.start for start, one in zip(starts, blocks, strict=False)]
        scratches = [address(pages) + place for place in places[len(buffers) :]]
        return Memory(pages, places[: len(buffers)], scratches)

    def order(self, pieces: int) -> list[int]:
        """Return the pieces of an operation in any order, as threads may take them."""
        return [int(piece) for piece in self._random.permutation(pieces)]

    def check(self) -> None:
        """Raise AssertionError if the last call wrote beside a buffer."""
        for one in self._blocks:
            one.check()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let programs that are made and run meanwhile use this memory."""
        guard = self

        class GuardedAssembler(Assembler):
            def constant(self, array: NDArray[Any]) -> int:
                self.constants.append(guard.constant(np.ascontiguousarray(array)))
                return address(self.constants[-1])

        class GuardedWorkspace(Workspace):
            def __init__(self, program: Program, images: int, threads: int) -> None:
                super().__init__(program, images, threads)
                self._program = program

            def run(self, images: int, team: Team | None) -> None:
                self._frames["images"] = images
                pieces = 1 if team is None else 2 * team.size + 1
                for index, operation in enumerate(self._program.operations):
                    guard.note(f"{operation.name}: {operation.kernel.__name__}")
                    guard.ran[operation.kernel.__name__] += 1
                    for piece in guard.order(pieces):
                        thread = piece % self.threads
                        self._frames[["piece", "pieces"]] = piece, pieces
                        frame = address(self._frames) + thread * FRAME.itemsize
                        execute(ALONE, address(self._calls) + PAIR * index, 1, frame, 0, 1, 0)
                self._inputs.clear()
                guard.check()

        def workspace(program: Program, images: int, threads: int) -> Workspace:
            return GuardedWorkspace(program, images, threads)

        with (
            patch.object(deepchip.runtime.assemble, "Assembler", GuardedAssembler),
            patch.object(deepchip.runtime.workspace, "allocate", self.allocate),
            patch.object(Program, "_workspace", workspace),
            patch.object(Program, "WORTH_WAKING", 0.0),
        ):
            yield
