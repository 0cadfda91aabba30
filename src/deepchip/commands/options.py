"""Options that several commands have."""

from __future__ import annotations

import argparse
from typing import Any

from ..runtime.model import MAX_THREADS

Commands = Any
"""What `argparse` calls the subparsers of a command line; its type is private."""


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Declare --threads."""
    parser.add_argument(
        "--threads", type=_threads, default=1, metavar="N", help="that share the work; default 1"
    )


def add_source(parser: argparse.ArgumentParser, text: str) -> None:
    """Declare the exported network, and what describes it where the file holds weights only."""
    parser.add_argument("source", help=f"{text}: .onnx, .h5, .keras, .weights.h5 or .net")
    described = parser.add_mutually_exclusive_group()
    for flag, kind in (
        ("--prototxt", "Caffe description of a .net file of Deep Compression"),
        ("--keras-config", "JSON of model.to_json() for a file of weights only"),
    ):
        described.add_argument(flag, dest="description", metavar="FILE", help=kind)


def add_pixels(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Declare how the pixels of a folder of images become inputs."""
    parser.add_argument(
        "--mean-values",
        type=_numbers,
        default=(0.0,),
        metavar="M[,M,M]",
        help="of a folder of images, whose pixels become (pixel - mean) / scale; default 0",
    )
    parser.add_argument(
        "--scale-values", type=_numbers, default=(255.0,), metavar="S[,S,S]", help="default 255"
    )


def natural(text: str) -> int:
    """Return a number from 1 up that an option states."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers") from None


def _threads(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {MAX_THREADS}")
    return int(text)
