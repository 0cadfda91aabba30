"""The command `deepchip`: an error is one line on stderr, status 2 for bad use, 1 for bad input."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ._version import __version__
from .formats.errors import DeepChipError, InputError, located
from .formats.model_file import verify_model
from .runtime.arrays import load_arrays
from .runtime.model import MAX_THREADS, Model, load
from .runtime.plan import BACKENDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options) or 0)
    except DeepChipError as error:
        return _fail(str(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output has gone: no error
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        place = f"{os.path.basename(str(error.filename))}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}")
    except MemoryError:
        return _fail("out of memory; close other programs, or use a smaller batch")
    except KeyboardInterrupt:
        _fail("interrupted")
        return 130


def _fail(text: str) -> int:
    print(f"deepchip: {text}", file=sys.stderr)
    return 1


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

    sub = commands.add_parser("convert", help="convert an exported network to a model file")
    sub.add_argument("source", help=".onnx, or .h5 of a whole Keras 2 model")
    sub.add_argument("target", help="model file to write")
    sub.add_argument(
        "--weights",
        default="auto",
        metavar="METHOD",
        help="auto (default), ternary, ttq:T, twn, nary:L, kmeans:L, uniform:B or float; "
        '",per-channel" behind it gives each output channel its own levels',
    )
    sub.add_argument(
        "--activations", default="float", metavar="BITS", help="float (default) or 1 to 8 bits"
    )
    sub.add_argument(
        "--calibration",
        metavar="INPUTS",
        help=".npy, .npz or folder of images: sample inputs that fix the activations' scales",
    )
    sub.add_argument(
        "--calibration-rule",
        default="mse",
        metavar="RULE",
        help="mse (default), percentile or percentile:P",
    )
    sub.add_argument(
        "--mean-values",
        type=_numbers,
        default=(0.0,),
        metavar="M[,M,M]",
        help="of a folder of images, whose pixels become (pixel - mean) / scale; default 0",
    )
    sub.add_argument(
        "--scale-values", type=_numbers, default=(255.0,), metavar="S[,S,S]", help="default 255"
    )
    sub.add_argument(
        "--keep-float",
        action="append",
        default=[],
        metavar="LAYER",
        help="keep the weights of this layer float; may be given several times",
    )
    sub.add_argument("--encoding", default="auto", choices=["auto", "csr", "runlength", "huffman"])
    sub.add_argument("--json", action="store_true", help="print the report as JSON")
    sub.set_defaults(command=_convert)

    sub = commands.add_parser("info", help="what a model file holds and costs, layer by layer")
    sub.add_argument("model")
    sub.add_argument("--plan", action="store_true", help="the kernels that run it here, and why")
    sub.add_argument("--json", action="store_true")
    sub.set_defaults(command=_info)

    sub = commands.add_parser("run", help="run a model on arrays")
    sub.add_argument("model")
    sub.add_argument("--input", required=True, help=".npy, or .npz with an array for each input")
    sub.add_argument("--output", required=True, help=".npy, or .npz if there are several outputs")
    sub.add_argument("--threads", type=_threads, default=1)
    sub.add_argument("--backend", choices=BACKENDS, default="numba")
    sub.set_defaults(command=_run)

    sub = commands.add_parser("warmup", help="compile the kernels of models before they are needed")
    sub.add_argument("models", nargs="+", metavar="MODEL")
    sub.set_defaults(command=_warmup)

    sub = commands.add_parser("verify", help="check every digest and every bound of a model file")
    sub.add_argument("model")
    sub.set_defaults(command=_verify)

    sub = commands.add_parser("demo", help="convert and run a ternary LeNet-5 on MNIST digits")
    sub.add_argument("--threads", type=_threads, default=1)
    sub.set_defaults(command=_demo)
    return parser


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers") from None


def _threads(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {MAX_THREADS}")
    return int(text)


def _convert(options: argparse.Namespace) -> int:
    from .converter.convert import check_options, convert
    from .converter.progress import bar

    try:
        check_options(
            options.weights,
            options.activations,
            options.calibration,
            options.calibration_rule,
        )
    except InputError as error:
        print(f"deepchip convert: {error}", file=sys.stderr)
        return 2
    report = convert(
        options.source,
        options.target,
        weights=options.weights,
        activations=options.activations,
        calibration=options.calibration,
        calibration_rule=options.calibration_rule,
        mean_values=options.mean_values,
        scale_values=options.scale_values,
        keep_float=options.keep_float,
        encoding=options.encoding,
        progress=bar,
    )
    print(json.dumps(report.as_dict(), indent=2) if options.json else report)
    return 0


def _info(options: argparse.Namespace) -> int:
    if options.plan:
        from .plan import describe_plan

        print(describe_plan(options.model, as_json=options.json))
    else:
        from .info import describe

        print(describe(options.model, as_json=options.json))
    return 0


def _warmup(options: argparse.Namespace) -> int:
    from .formats.jit import cache_folder

    begin = time.perf_counter()
    for path in options.models:
        load(path)
    seconds = time.perf_counter() - begin
    folder = cache_folder()
    print(
        f"kernels are ready in {folder}, after {seconds:.1f} s"
        if folder
        else "kernels were compiled, but there is no folder to keep them in"
    )
    return 0 if folder else 1


def _run(options: argparse.Namespace) -> int:
    model = load(options.model, threads=options.threads, backend=options.backend)
    inputs = load_arrays(options.input)
    with located(Path(options.input).name):
        outputs = model.run(_named(model, inputs))
    _save(options.output, outputs)
    for name, array in outputs.items():
        print(f"{name}: {array.dtype} {array.shape} in {options.output}")
    return 0


def _named(model: Model, arrays: dict[str, Any]) -> dict[str, Any]:
    """Give one array the name of a model's one input, whatever it is called in its file."""
    if len(arrays) == len(model.inputs) == 1:
        return {model.inputs[0].name: next(iter(arrays.values()))}
    return arrays


def _save(path: str, outputs: dict[str, Any]) -> None:
    """Write beside the target, then rename, so that an older result stays whole until then."""
    target = Path(path)
    suffix = ".npy" if len(outputs) == 1 else ".npz"
    if target.suffix != suffix:
        raise InputError(f"{target.name}: {len(outputs)} outputs are written to a {suffix} file")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(temporary, "xb") as file:
            if suffix == ".npy":
                np.save(file, next(iter(outputs.values())))
            else:
                np.savez(file, **outputs)
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _verify(options: argparse.Namespace) -> int:
    name = Path(options.model).name
    graph, faults = verify_model(options.model)
    for fault in faults:
        print(f"{name}: {fault}", file=sys.stderr)
    if graph is None:
        return 1
    layers = len(list(graph.layers()))
    size = Path(options.model).stat().st_size
    print(f"{name}: sound; {layers} layers with weights, {size:,} bytes")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from .demo import demo

    demo(options.threads)
    return 0
