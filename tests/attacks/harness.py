"""Runs an attack in a child process and tells what came of it: see `Outcome`.

    outcome = attack("tests.attacks.targets:decoded", data)
    check_refused(outcome, InvalidModelError, "does not match its SHA-256")

A child is started once for a target and then kept, so that thousands of files are cheap; when it
dies or hangs, the file that it had in hand is to blame, and the next one gets a new child.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import signal
import struct
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from deepchip.formats.errors import DeepChipError
from tests.checks import patient

from .child import Outcome, serve

SECONDS = patient(2.0)
"""What a bad file may cost: processor time, so that a busy machine does not fail a test."""
MEGABYTES = 64.0
"""Memory that it may take beyond its honest size."""
HANG = patient(60.0)
"""Seconds by the clock after which an answer is no longer waited for."""
AHEAD = 16
"""Arguments that are sent to a child before it has answered for the first of them."""
START = patient(300.0)
"""Seconds that a child may take to import its target, and to compile kernels."""


class Worker:
    """A child process that calls one function, again and again.

    Parameters
    ----------
    target : "module:function"; takes what `run` is given, gives back what pickles
    warm : arguments that it is called with first, unmeasured, so that modules are imported and
        kernels compiled before anything is measured
    """

    def __init__(self, target: str, warm: Sequence[Any] = ()) -> None:
        self._target = target
        self._warm = warm
        self._process: Any = None
        self._connection: Any = None
        self._log = ""

    def run(self, argument: Any, hang: float = HANG) -> Outcome:
        """Call the target: `argument` is a path (str), the bytes of a file, or anything else."""
        (outcome,) = self.run_all([argument], hang)
        return outcome

    def run_all(self, arguments: Iterable[Any], hang: float = HANG) -> Iterator[Outcome]:
        """Call the target with each argument, of which some are sent ahead; give each outcome."""
        waiting: deque[Any] = deque()
        for argument in arguments:
            waiting.append(argument)
            self._send(argument)
            if len(waiting) == AHEAD:
                yield self._answer(waiting, hang)
        while waiting:
            yield self._answer(waiting, hang)

    def _send(self, argument: Any) -> None:
        if self._process is None:
            self._start()
        with suppress(BrokenPipeError):  # it died: that is an answer
            self._connection.send(argument)

    def _answer(self, waiting: deque[Any], hang: float) -> Outcome:
        """Return what came of the first that waits; the others go to a new child if it died."""
        try:
            if self._connection.poll(hang):
                outcome: Outcome = self._connection.recv()
                waiting.popleft()
                return outcome
            self._process.kill()
            outcome = Outcome("hang", text=f"no answer in {hang} s\n{self._end()}", seconds=hang)
        except (EOFError, OSError):
            outcome = Outcome("crash", text=self._end())
        waiting.popleft()
        for argument in waiting:
            self._send(argument)
        return outcome

    def close(self) -> None:
        """End the child."""
        if self._process is not None:
            self._connection.close()
            self._process.join(10)
            self._process.kill()
            self._end()

    def _start(self) -> None:
        # A new interpreter: a fork would inherit the parent's threads and memory.
        context = multiprocessing.get_context("spawn")
        handle, self._log = tempfile.mkstemp(suffix=".log")
        os.close(handle)
        self._connection, theirs = context.Pipe()
        arguments = (theirs, self._target, self._log, self._warm)
        self._process = context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        if not self._connection.poll(START) or self._connection.recv() != "ready":
            raise RuntimeError(f"{self._target} does not start: {self._end()}")

    def _end(self) -> str:
        """Forget the child; return how it ended and what it said of it."""
        self._process.join(10)
        code = self._process.exitcode
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit {code}"
        said = Path(self._log).read_text(errors="replace")[-2000:]
        Path(self._log).unlink()
        self._connection.close()
        self._process = None
        return f"{how}\n{said}"


@cache
def worker(target: str, *warm: Any) -> Worker:
    """Return the one worker for a target; it ends with this process."""
    found = Worker(target, warm)
    atexit.register(found.close)
    return found


def attack(target: str, argument: Any, *warm: Any) -> Outcome:
    """Call a target in its worker; `warm` as for `Worker`."""
    return worker(target, *warm).run(argument)


def check_bounds(outcome: Outcome, size: int) -> None:
    """Assert that what came is an error of ours or a result, in bounded time and memory.

    Parameters
    ----------
    size : bytes that the file's content honestly takes
    """
    assert outcome.kind in ("result", "refused"), outcome
    assert outcome.seconds <= SECONDS, outcome
    assert outcome.megabytes <= size / 2**20 + MEGABYTES, outcome
    assert outcome.reached == (), outcome


def check_refused(
    outcome: Outcome, error: type[DeepChipError], text: str = "", size: int = 0
) -> None:
    """Assert that the file was refused, within bounds, in one line that holds `text`."""
    check_bounds(outcome, size)
    assert outcome.kind == "refused", outcome
    assert outcome.error == error.__name__, outcome
    assert text in outcome.text, outcome
    assert outcome.text.isprintable(), outcome  # one line, and nothing for a terminal to obey


def check_result(outcome: Outcome, value: Any, size: int = 0) -> None:
    """Assert that the file was read, within bounds, and gave `value`."""
    check_bounds(outcome, size)
    assert outcome.kind == "result", outcome
    assert outcome.value == value, outcome


@contextmanager
def opened_by(*watched: str | os.PathLike[str]) -> Iterator[Callable[[], list[str]]]:
    """Watch files and folders (not those below) by inotify: C libraries open nothing unseen.

    Gives a function that says which of them, or which files in them, any process has opened.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK)
    folders = {}
    for path in watched:
        number = libc.inotify_add_watch(handle, os.fsencode(path), _IN_OPEN)
        if number < 0:
            raise OSError(ctypes.get_errno(), f"{path} cannot be watched")
        folders[number] = os.fspath(path)

    def opened() -> list[str]:
        found = []
        data = b""
        with suppress(BlockingIOError):
            data = os.read(handle, 2**20)
        while data:
            number, _, _, length = struct.unpack("iIII", data[:16])
            name = data[16 : 16 + length].rstrip(b"\0")
            found.append(os.path.join(folders[number], os.fsdecode(name)).rstrip("/"))
            data = data[16 + length :]
        return list(dict.fromkeys(found))

    try:
        yield opened
    finally:
        os.close(handle)


_IN_OPEN = 0x20  # inotify(7)
