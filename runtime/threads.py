"""Threads that share the operations of a program: started once, asleep between calls."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

Work = Callable[[int], object]


class Team:
    """Some threads that wait to help the one that calls `run`.

    They are started by the first call, and again in a process that was forked: threads do not
    survive that, and neither would a lock that one of them held.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._crews: dict[int, _Crew] = {}  # by process

    def run(self, work: Work, give_up: Callable[[], object]) -> bool:
        """Call work(1) ... work(size - 1) on threads of the team, and work(0) here.

        `work` has to meet: no call of it returns before all of them have begun.

        Returns
        -------
        False, and does nothing, where the team is busy with the call of another thread.

        Raises
        ------
        BaseException
            What interrupted this thread; `give_up` was called before, so that the others return.
        """
        crew = self._crews.get(os.getpid()) or self._start()
        if not crew.busy.acquire(blocking=False):
            return False
        try:
            crew.work = work
            for wake in crew.wake:
                wake.release()
            work(0)
        except BaseException:
            give_up()
            raise
        finally:
            crew.busy.release()
        return True

    def _start(self) -> _Crew:
        """Start threads. Should two callers do so at a time, one crew ends at once."""
        crew = _Crew(self.size)
        kept = self._crews.setdefault(crew.process, crew)
        if kept is not crew:
            crew.dismiss()
            return kept
        weakref.finalize(self, crew.dismiss)
        return crew


class _Crew:
    """The threads of a team in one process; they hold nothing of the team, so that it can go."""

    def __init__(self, size: int) -> None:
        self.process = os.getpid()
        self.busy = threading.Lock()
        self.wake = [threading.Semaphore(0) for _ in range(1, size)]
        self.work: Work | None = None
        for index, wake in enumerate(self.wake, 1):
            name = f"deepchip-{index}"
            threading.Thread(target=self._serve, args=(index, wake), name=name, daemon=True).start()

    def _serve(self, index: int, wake: threading.Semaphore) -> None:
        while True:
            wake.acquire()
            work = self.work
            if work is None:
                return
            work(index)
            del work

    def dismiss(self) -> None:
        """Let the threads end."""
        if self.process == os.getpid():
            self.work = None
            for wake in self.wake:
                wake.release()
