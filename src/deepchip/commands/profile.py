"""`deepchip profile`."""

from __future__ import annotations

import argparse
import json
import sys

from ..formats.files import write_text
from ..runtime.plan import BACKENDS
from .options import Commands, add_pixels, natural


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("profile", help="measure time and memory of a model, by layer")
    parser.add_argument("model")
    parser.add_argument(
        "--threads", type=_numbers, default=(1,), metavar="N[,N]", help="to measure; default 1"
    )
    parser.add_argument(
        "--runs", type=natural, default=50, metavar="N", help="calls that are timed; default 50"
    )
    parser.add_argument(
        "--warmup", type=_whole, default=5, metavar="N", help="calls before; default 5"
    )
    parser.add_argument(
        "--batch", type=natural, default=1, metavar="N", help="items of a call; default 1"
    )
    parser.add_argument(
        "--pause",
        type=float,
        default=0.0,
        metavar="S",
        help="seconds to cool down before each number of threads",
    )
    parser.add_argument(
        "--input", metavar="INPUTS", help=".npy, .npz or folder of images; default random numbers"
    )
    add_pixels(parser)
    parser.add_argument("--backend", choices=BACKENDS, default="numba")
    parser.add_argument(
        "--versus", metavar="FILE", help=".onnx or .tflite to run beside it, on one thread each"
    )
    parser.add_argument(
        "--compare", metavar="JSON", help="of another profile, from another machine or release"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (docs/profile.md)")
    parser.add_argument("--html", metavar="PAGE", help="also write a page of HTML")
    parser.set_defaults(command=run)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(natural(part) for part in text.split(","))


def _whole(text: str) -> int:
    return 0 if text == "0" else natural(text)


def run(options: argparse.Namespace) -> None:
    """Measure, and print the report."""
    from ..profiling.compare import compare, read_profile
    from ..profiling.measure import profile
    from ..profiling.report import as_dict, as_html, as_text

    other = read_profile(options.compare) if options.compare else None
    progress = _say if sys.stderr.isatty() else lambda text: None
    try:
        found = profile(
            options.model,
            inputs=options.input,
            mean=options.mean_values,
            scale=options.scale_values,
            backend=options.backend,
            threads=options.threads,
            batch=options.batch,
            warmup=options.warmup,
            runs=options.runs,
            pause=options.pause,
            versus=options.versus,
            progress=progress,
        )
    finally:
        progress("")
    compared = None if other is None else compare(as_dict(found), other)
    if options.json:
        print(json.dumps(as_dict(found, compared), indent=2))
    else:
        print(as_text(found, compared))
    if options.html:
        write_text(options.html, as_html(found, compared))


def _say(text: str) -> None:
    """Show what is being done until the next thing is, in one line of the terminal."""
    print(f"\r\x1b[K{text}{' ...' if text else ''}", end="", file=sys.stderr, flush=True)
