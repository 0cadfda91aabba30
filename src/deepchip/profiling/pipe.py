"""Both ends of a pipe to a process that is measured: questions and answers are lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from ..formats import errors
from ..formats.errors import DeepChipError, UnsupportedError

Answer = dict[str, Any]

_START = (
    "import os, sys; sys.path[:] = sys.argv[1].split(os.pathsep); "
    "from {module} import main; main(*sys.argv[2:])"
)
"""Isolated, then with the modules that are found here."""


class Process:
    """A module that runs in a process of its own and answers questions.

    Parameters
    ----------
    module : one of this folder, whose `main` calls `serve`
    arguments : of its `main`
    """

    def __init__(self, module: str, *arguments: str) -> None:
        if not sys.executable or getattr(sys, "frozen", False):
            raise UnsupportedError(
                "profiling starts the Python interpreter, and this program has none; profile with "
                "an installed deepchip"
            )
        code = _START.format(module=f"{__package__}.{module}")
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", code, os.pathsep.join(sys.path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C in a terminal is for this process, which then ends that one.
            start_new_session=True,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # of a question that it did not live to read
                pipe.close()

    def ask(self, name: str, **arguments: Any) -> Answer:
        """Ask a question and return the answer.

        Raises
        ------
        DeepChipError, OSError
            What answering raised there, or that the process has ended.
        """
        given, answered = self._process.stdin, self._process.stdout
        assert given is not None and answered is not None
        try:
            given.write(json.dumps([name, arguments]).encode() + b"\n")
            given.flush()
            line = answered.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise DeepChipError(_ending(self._process.wait()))
        kind, found = json.loads(line)
        if kind == "OSError":
            raise OSError(*found)
        if kind:
            raise getattr(errors, kind)(found)
        return dict(found)


def _ending(status: int) -> str:
    if status < 0:
        return (
            f"the process that is measured was killed by signal {-status}"
            f"{', maybe for want of memory' if status == -9 else ''}"
        )
    return f"the process that is measured ended with status {status}; what it said is above"


def serve(answers: Mapping[str, Callable[..., Answer]]) -> None:
    """Answer questions until nobody asks any more, on what is the standard output so far."""
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # libraries print
        for line in sys.stdin.buffer:
            name, arguments = json.loads(line)
            out.write(json.dumps(_answer(answers[name], arguments)).encode() + b"\n")
            out.flush()


def _answer(function: Callable[..., Answer], arguments: Mapping[str, Any]) -> list[Any]:
    try:
        return ["", function(**arguments)]
    except DeepChipError as error:
        return [type(error).__name__, str(error)]
    except OSError as error:
        return ["OSError", [error.errno, error.strerror, error.filename]]
    except MemoryError:
        return ["OutOfMemoryError", "out of memory; close other programs, or use a smaller batch"]
