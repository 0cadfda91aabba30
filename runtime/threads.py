"""Threads that help with a call: started once, asleep between calls.

No lock is held here: a fork, signal or garbage collection in the middle of a call could leave it
locked. A crew belongs to whoever holds it: the call that took it from its team gives it back.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from . import cpus

Work = Callable[[int], object]
GiveUp = Callable[[], object]
Inbox = SimpleQueue["tuple[Work, list[int]] | None"]


class Team:
    """Some threads that wait to help the one that calls `run`.

    They are started by the first call that needs them, and again in a process that was forked.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: deque[_Crew] = deque(maxlen=1)
        self._latest: weakref.ref[_Crew] | None = None
        self._closed = False

    def run(self, work: Work, give_up: GiveUp) -> bool:
        """Call work(0) here, and work(1) ... work(size - 1) on threads of the team.

        These may begin late, also after work(0) has returned and the next call has begun, or never:
        a thread that fails is replaced at the next call. They have to return soon after work(0).

        Returns
        -------
        False, and does nothing, where the team is busy with the call of another thread, is closed,
        or cannot start its threads.

        Raises
        ------
        BaseException
            What interrupted this thread; `give_up` was called before, so that the others return.
        """
        crew = self._take()
        if crew is None:
            return False
        try:
            crew.wake(work)
            work(0)
        except BaseException:
            give_up()
            raise
        finally:
            self._idle.append(crew)
            if self._closed:
                self.close()
        return True

    def close(self) -> None:
        """End the threads and wait until they have; those at work end with the call they help."""
        self._closed = True
        try:
            crew = self._idle.pop()
        except IndexError:
            return
        crew.dismiss()
        crew.join()

    def _take(self) -> _Crew | None:
        """Return the crew if it is idle, or a new one if there is none."""
        if self._closed:
            return None
        try:
            crew = self._idle.pop()
        except IndexError:
            at_work = self._latest and self._latest()
            return None if at_work and at_work.ready() else self._start()
        return crew if crew.ready() else self._start()

    def _start(self) -> _Crew | None:
        """Start threads. Should two callers do so at a time, one crew ends after its first call."""
        try:
            crew = _Crew(self.size)
        except (RuntimeError, MemoryError) as error:
            warnings.warn(
                f"threads={self.size}, but no more can be started ({error}): a call that finds it "
                "so goes on with one. Ask for fewer, or raise the limit on them.",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        self._latest = weakref.ref(crew)
        return crew


class _Crew:
    """Started threads. They hold nothing of the crew, so that they end when nobody holds it."""

    def __init__(self, size: int) -> None:
        self._inboxes: list[Inbox] = [SimpleQueue() for _ in range(1, size)]
        self._threads = [
            threading.Thread(
                target=_serve, args=(index, inbox), name=f"deepchip-{index}", daemon=True
            )
            for index, inbox in enumerate(self._inboxes, 1)
        ]
        self.dismiss = weakref.finalize(self, _dismiss, self._inboxes)
        self.dismiss.atexit = False  # a call may go on in a daemon thread while Python shuts down
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:
            self.dismiss()
            raise

    def ready(self) -> bool:
        """Return whether its threads live: none does in a process that was forked since."""
        return self.dismiss.alive and all(thread.is_alive() for thread in self._threads)

    def wake(self, work: Work) -> None:
        taken = [cpus.current()]
        for inbox in self._inboxes:
            inbox.put((work, taken))

    def join(self) -> None:
        """Wait until its threads have ended, after they were dismissed."""
        for thread in self._threads:
            if thread is not threading.current_thread():  # closed by a finalizer that ran there
                thread.join()


def _serve(index: int, inbox: Inbox) -> None:
    """Do what comes in, until None does."""
    while (job := inbox.get()) is not None:
        work, taken = job
        cpus.keep_apart(taken)
        work(index)
        del job, work, taken  # hold no memory of the call while asleep


def _dismiss(inboxes: Sequence[Inbox]) -> None:
    """Let threads end. Unlike other queues, these may be put to in the middle of anything."""
    for inbox in inboxes:
        inbox.put(None)
