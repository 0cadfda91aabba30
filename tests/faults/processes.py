"""Code run in processes of its own, which may come to grief."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import deepchip
from deepchip.converter.builder import Builder
from deepchip.formats.graph import Graph
from deepchip.formats.model_file import write_model
from tests.checks import patient

LENET = Path(deepchip.__file__).parent / "data" / "lenet5.onnx"
"""What `deepchip demo` converts."""

SECONDS = patient(240)
"""No process may take longer: on a busy machine compiling takes a minute."""


def run_python(
    code: str, *arguments: Any, cache: Path | None = None, status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run code, given arguments, with a cache folder of kernels; it has to end with `status`."""
    environment = dict(os.environ)
    if cache is not None:
        environment["DEEPCHIP_CACHE_DIR"] = str(cache)
    found = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert found.returncode == status, f"{found.returncode}: {found.stdout}{found.stderr}"
    return found


def network() -> Graph:
    """Inputs x0, x1 to y = [2 x0 - x1, 0.5 x1], what is negative being 0: two kernels."""
    net = Builder("small")
    x = net.input("x", (2,))
    weight = np.array([[2, -1], [0, 0.5]], np.float32)
    y = net.add("FullyConnected", [x], "fc", tensors={"weight": weight})
    return net.finish([net.add("Relu", [y], "relu")])


INPUTS = [[1.0, 4.0], [3.0, -2.0]]
OUTPUTS = [[0.0, 2.0], [8.0, 0.0]]
"""2 - 4 and 2; 6 + 2 and -1; without what is negative."""


def written(folder: Path, name: str = "net.dchip") -> Path:
    """Return where the network was written."""
    write_model(network(), folder / name)
    return folder / name
