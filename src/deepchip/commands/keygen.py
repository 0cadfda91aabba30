"""`deepchip keygen`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..formats.keys import make_keys
from .options import Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("keygen", help="make a pair of keys to sign models with")
    parser.add_argument("name", help="writes NAME.pem, to keep secret, and NAME.pub.pem")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    """Make the keys, and say what to do with each."""
    private, public = Path(f"{options.name}.pem"), Path(f"{options.name}.pub.pem")
    make_keys(private, public)
    print(f"{private}: private key, not encrypted; keep it where models are signed")
    print(f"{public}: public key; give it to those who load them")
