"""The command `deepchip`: an error is one line on stderr, status 2 for bad use, 1 for bad input.

A command that is interrupted (SIGINT) or told to end (SIGTERM) removes what it has not finished,
says so in one line and exits with 128 and the number of the signal, as a shell would state it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from .formats.errors import DeepChipError, UsageError

WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
_SIGNALS = [signal.Signals[name] for name in WORDS if name in signal.Signals.__members__]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    with _Signals(last=arguments is None) as signals:
        try:
            status = _run(arguments)
        except BaseException:
            if signals.seen is None:
                raise
            # Whatever was raised: libraries turn what interrupts them into errors of theirs.
    if signals.seen is not None:
        return _fail(WORDS[signals.seen.name], 128 + signals.seen)
    return status


def _run(arguments: Sequence[str] | None) -> int:
    try:
        from .commands.parser import parser  # which takes a moment, and may be interrupted too

        options = parser().parse_args(arguments)
        status = int(options.command(options) or 0)
        sys.stdout.flush()
    except DeepChipError as error:
        return _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    except BrokenPipeError:  # the reader of our output has gone: no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f"{os.path.basename(str(error.filename))}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}")
    except MemoryError:
        return _fail("out of memory; close other programs, or use a smaller batch")
    return status


class _Stop(BaseException):
    """Unwinds the command."""


class _Signals:
    """Takes the first signal to end, and no other: what it makes the command do has to be done.

    Parameters
    ----------
    last : whether the process ends with the command, and need not be interrupted any more

    Attributes
    ----------
    seen : the signal, if there was one
    """

    def __init__(self, last: bool) -> None:
        self.seen: signal.Signals | None = None
        self._last = last
        self._before: dict[signal.Signals, Any] = {}
        self._reported = sys.unraisablehook
        self._once_more: threading.Timer | None = None

    def __enter__(self) -> _Signals:
        sys.unraisablehook = self._unraisable
        if threading.current_thread() is threading.main_thread():
            for each in _SIGNALS:
                if signal.getsignal(each) != signal.SIG_IGN:  # which nohup asks for
                    self._before[each] = signal.signal(each, self._stop)
        return self

    def __exit__(self, *error: object) -> None:
        if self._once_more is not None:
            self._once_more.cancel()
        sys.unraisablehook = self._reported
        for each, handler in self._before.items():
            signal.signal(each, signal.SIG_IGN if self._last else handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        for each in self._before:
            signal.signal(each, lambda number, frame: None)  # SIG_IGN warns of what is pending
        self.seen = signal.Signals(number)
        raise _Stop

    def _unraisable(self, found: Any) -> None:
        """Stop a little later what was stopped in a finalizer, which passes no exception on."""
        if self.seen is None or found.exc_type is not _Stop:
            self._reported(found)
            return
        signal.signal(self.seen, self._stop)
        self._once_more = threading.Timer(0.01, signal.raise_signal, [self.seen])
        self._once_more.start()


def _fail(text: str, status: int = 1) -> int:
    print(f"deepchip: {text}", file=sys.stderr)
    return status
