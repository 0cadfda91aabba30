"""`deepchip warmup`."""

from __future__ import annotations

import argparse
import time

from ..runtime.model import load
from .options import Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "warmup", help="compile the kernels of models before they are needed"
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Load each model, which compiles what it needs."""
    from ..formats import kernel_cache

    begin = time.perf_counter()
    for path in options.models:
        load(path)
    seconds = time.perf_counter() - begin
    kept = kernel_cache.works()
    print(
        f"kernels are ready in {kernel_cache.cache_folder()}, after {seconds:.1f} s"
        if kept
        else "kernels were compiled, but there is no folder to keep them in"
    )
    return 0 if kept else 1
