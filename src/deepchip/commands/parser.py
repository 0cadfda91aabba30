"""The parser of the command line."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from .._version import __version__
from . import convert, demo, diff, doctor, info, keygen, profile, run, sign, verify, warmup

COMMANDS = (convert, info, diff, run, profile, warmup, verify, keygen, sign, demo, doctor)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Leave with status 2."""
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def parser() -> argparse.ArgumentParser:
    """Return a parser of every command; what it gives holds the command's function, `command`."""
    whole = _Parser(prog="deepchip", description="Compressed neural networks in small files.")
    whole.add_argument("--version", action="version", version=f"deepchip {__version__}")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return whole
