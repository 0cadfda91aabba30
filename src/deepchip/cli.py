"""The command `deepchip`: an error is one line on stderr, status 2 for bad use, 1 for bad input."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ._version import __version__
from .commands import convert, demo, diff, info, keygen, run, sign, verify, warmup
from .formats.errors import DeepChipError, UsageError

COMMANDS = (convert, info, diff, run, warmup, verify, keygen, sign, demo)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options) or 0)
    except DeepChipError as error:
        return _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output has gone: no error
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        place = f"{os.path.basename(str(error.filename))}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}")
    except MemoryError:
        return _fail("out of memory; close other programs, or use a smaller batch")
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _fail(text: str, status: int = 1) -> int:
    print(f"deepchip: {text}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Leave with status 2."""
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="deepchip", description="Compressed neural networks in small files.")
    parser.add_argument("--version", action="version", version=f"deepchip {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser
