"""`deepchip sign`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..formats.model_file import sign_model
from .options import Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("sign", help="verify model files, and sign them")
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--key", required=True, help="private key (PEM) of deepchip keygen")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    """Sign each file in place."""
    for path in options.models:
        sign_model(path, options.key)
        print(f"{Path(path).name}: signed with {Path(options.key).name}")
