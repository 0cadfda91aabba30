"""Reads an exported network, whatever its form, in a process of its own.

Exports are parsed by large libraries (protobuf, HDF5, NumPy), which a file can be made to crash, to
keep busy for ever or to fill the memory with. All that becomes an error here, and the process that
called goes on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event, Timer
from typing import Any

from deepchip.formats import errors
from deepchip.formats.errors import InvalidModelError, UnsupportedError, located
from deepchip.formats.graph import Graph
from deepchip.formats.model_file import read_model

from . import limits
from .kinds import Description

LONGEST = 600.0
"""Seconds by the clock after which an answer is no longer waited for, whatever keeps the process:
its own limits (`limits.py`) are of processor time."""


def read_network(source: str | os.PathLike[str], description: Description | None = None) -> Graph:
    """Return the graph that a file describes; its suffix says how.

    Parameters
    ----------
    source : .onnx; .keras, .h5 or .hdf5 of a whole Keras model, or .weights.h5 of its weights; .net
        of Deep Compression
    description : for weights alone, the file that describes the network: the JSON of Keras's
        `model.to_json()`, or Caffe's .prototxt for a .net file

    Raises
    ------
    InputError
        A description is missing, or there is none for this kind of file; a file is not there.
    InvalidModelError
        It is damaged, or crashes what reads it, or takes more memory or time than its size
        accounts for.
    UnsupportedError
        Another suffix, or what DeepChip does not do. For all else see the readers.
    """
    name = Path(source).name
    with subprocess.Popen(
        _command(os.fspath(source), "" if description is None else os.fspath(description)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    ) as process:
        over = Event()

        def end() -> None:
            over.set()
            process.kill()

        timer = Timer(LONGEST, end)
        timer.start()
        try:
            assert process.stdout is not None
            line, data = process.stdout.readline(), process.stdout.read()
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
    if over.is_set():
        raise InvalidModelError(
            f"{name}: what reads it gave no answer in {LONGEST:.0f} seconds: try again if this "
            "machine stood still, or else take the file for damaged"
        )
    if code != 0 or not line:
        raise InvalidModelError(f"{name}: {_end(code)}")
    answer = json.loads(line)
    if answer["error"] is not None:
        raise _error(answer)
    with located(name):
        return read_model(data)


_START = (
    "import os, sys; sys.path[:] = sys.argv[1].split(os.pathsep); "
    "from deepchip.converter.readers.child import main; main(*sys.argv[2:])"
)


def _command(source: str, description: str) -> list[str]:
    """Return how the process is started: isolated, then with the modules that are found here."""
    if not sys.executable or getattr(sys, "frozen", False):
        raise UnsupportedError(
            "reading exports starts the Python interpreter, and this program has none; convert "
            "with an installed deepchip"
        )
    told = [os.pathsep.join(sys.path), source, description, str(limits.SECONDS)]
    return [sys.executable, "-I", "-c", _START, *told]


def _end(code: int) -> str:
    """Say how a process ended that did not answer."""
    if code == -getattr(signal, "SIGPROF", 0):
        return "reading it takes more time than its size accounts for"
    how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return f"damaged: what reads it crashed ({how})"


def _error(answer: dict[str, Any]) -> Exception:
    kind = getattr(errors, answer["error"], OSError)
    error: Exception = kind(*answer["arguments"])
    return error
