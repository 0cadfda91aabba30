"""`deepchip verify`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..formats.model_file import verify_model
from .options import Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "verify", help="check every digest and every bound of a model file"
    )
    parser.add_argument("model")
    parser.add_argument("--key", help="public key (PEM) that the file has to be signed with")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Print a line for each fault, or that there is none."""
    name = Path(options.model).name
    graph, faults = verify_model(options.model, options.key)
    for fault in faults:
        print(f"{name}: {fault}", file=sys.stderr)
    if graph is None:
        return 1
    layers = len(list(graph.layers()))
    size = Path(options.model).stat().st_size
    signed = f", signed with {Path(options.key).name}" if options.key else ""
    print(f"{name}: sound; {layers} layers with weights, {size:,} bytes{signed}")
    return 0
