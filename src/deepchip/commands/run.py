"""`deepchip run`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..runtime.model import load
from ..runtime.plan import BACKENDS
from .options import Commands, add_pixels, add_threads, natural


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("run", help="run a model on arrays or images, however many")
    parser.add_argument("model")
    parser.add_argument(
        "--input",
        required=True,
        help=".npy; .npz with an array for each input; or a folder of images",
    )
    parser.add_argument(
        "--output",
        required=True,
        help=".npy; .npz for several outputs, or with the names of images; or .csv with the "
        "classes of the highest scores",
    )
    parser.add_argument(
        "--top", type=natural, metavar="K", help="classes of each item in a .csv; default 1"
    )
    add_pixels(parser)
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave out files of the folder that are no image, and list them",
    )
    parser.add_argument(
        "--batch", type=natural, metavar="N", help="items that are read at a time, about"
    )
    add_threads(parser)
    parser.add_argument("--backend", choices=BACKENDS, default="numba")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    """Run the model and write what it gives."""
    from ..runtime.score import score

    model = load(options.model, threads=options.threads, backend=options.backend)
    with _bar() as progress:
        scored = score(
            model,
            options.input,
            options.output,
            batch=options.batch,
            mean=options.mean_values,
            scale=options.scale_values,
            top=options.top,
            skip_broken=options.skip_broken,
            progress=progress,
        )
    for name, fault in scored.skipped:
        print(f"skipped {name}: {fault}", file=sys.stderr)
    for port in model.outputs:
        found = f"{port.dtype} {(scored.count, *port.shape[1:])}"
        if Path(options.output).suffix == ".csv":
            classes = model.graph.values[port.name].size
            found = f"{options.top or 1} of {classes} classes of each of {scored.count} items"
        print(f"{port.name}: {found} in {options.output}")


@contextmanager
def _bar() -> Iterator[Callable[[int, int], object]]:
    """Show a bar on a terminal once the work takes longer than half a second, and take it away."""
    try:
        from tqdm import tqdm
    except ImportError:  # of an extra: the work can be done without
        yield lambda done, count: None
        return
    with tqdm(unit=" items", delay=0.5, leave=False, disable=None) as shown:

        def progress(done: int, count: int) -> None:
            shown.total = count
            shown.update(done - shown.n)

        yield progress
