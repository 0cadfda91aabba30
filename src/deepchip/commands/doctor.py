"""`deepchip doctor`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from .options import Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("doctor", help="whether this machine is fit, and what to do")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Print a line for each thing that was looked at; return 1 if models cannot be run here."""
    from .. import doctor

    lines = doctor.examine()
    if options.json:
        print(json.dumps([asdict(line) for line in lines], indent=2))
    else:
        print(doctor.as_text(lines))
    return doctor.status(lines)
