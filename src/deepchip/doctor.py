"""`deepchip doctor`: whether a machine is fit to run models, and what to do where it is not."""

from __future__ import annotations

import os
import platform
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from . import machine as machines
from ._version import __version__
from .formats import kernel_cache
from .formats.errors import DeepChipError
from .formats.graph import Graph
from .machine import FOLLOWING, HOT, ROOT, Machine, State

OK, WARN, FAIL = "ok", "warn", "fail"

OLDEST = (3, 10)
NEEDED = 300 * 2**20
"""Bytes of memory that a process with a model of some size takes, most of them Numba's."""
FEW = 4
"""Kernels that the test below compiles by itself."""


@dataclass(frozen=True)
class Line:
    """What was looked at.

    Attributes
    ----------
    status : "ok"; "warn", models run, but not at their best; "fail", they do not
    remedy : what to do, "" where there is nothing
    """

    name: str
    status: str
    found: str
    remedy: str = ""


def examine(root: Path = ROOT) -> list[Line]:
    """Look at everything; `root` as in `machine`."""
    machine, state = machines.machine(root), machines.state(root)
    return [
        _system(machine),
        _python(),
        *_libraries(machine),
        _kernels(),
        _cache(),
        _processor(machine),
        _memory(machine, state),
        *_clock(machine, state),
        *_firmware(machine, state),
    ]


def status(lines: Sequence[Line]) -> int:
    """Return 1 if anything failed."""
    return int(any(line.status == FAIL for line in lines))


def as_text(lines: Sequence[Line]) -> str:
    """Return a line for each, and its remedy below it."""
    width = max(len(line.name) for line in lines)
    text = []
    for line in lines:
        text.append(f"{line.status:<4}  {line.name:<{width}}  {line.found}")
        if line.remedy:
            text.append(f"{'':<4}  {'':<{width}}  -> {line.remedy}")
    return "\n".join(text)


def _system(machine: Machine) -> Line:
    found = f"{machine.system}, {machine.architecture}, {machine.bits}-bit Python"
    if machine.board:
        found = f"{machine.board}, {found}"
    if machine.bits == 64:
        return Line("system", OK, found)
    return Line(
        "system",
        FAIL,
        found,
        "Numba needs 64 bits: install a 64-bit system, or use backend='numpy' (--backend numpy), "
        "which is slower and gives the same results",
    )


def _python() -> Line:
    found = f"{platform.python_version()} at {sys.executable}; DeepChip {__version__}"
    if sys.version_info >= OLDEST:
        return Line("Python", OK, found)
    return Line("Python", FAIL, found, "install Python 3.10 or newer")


def _libraries(machine: Machine) -> Iterator[Line]:
    yield Line("NumPy", OK, np.__version__)
    found = _imported("numba")
    if isinstance(found, str):
        install = "pip install numba" if machine.bits == 64 else "there is none for 32 bits"
        remedy = f"{install}; use backend='numpy' (--backend numpy), which does without"
        yield Line("Numba", FAIL, found, remedy)
    else:
        llvm = _imported("llvmlite")
        also = "" if isinstance(llvm, str) else f", llvmlite {llvm.__version__}"
        yield Line("Numba", OK, f"{found.__version__}{also}")
    found = _imported("h5py")
    if isinstance(found, str):
        yield Line("h5py", WARN, found, "pip install h5py, to write models; they run without")
    else:
        yield Line("h5py", OK, f"{found.__version__}, HDF5 {found.version.hdf5_version}")


def _imported(name: str) -> Any:
    """Return a module, or why it does not import."""
    try:
        return import_module(name)
    except Exception as error:  # whatever a library of another release stumbles over
        return " ".join(f"does not import: {error}".split())


def _kernels() -> Line:
    """Run a small network on both backends; their results have to be the same bits."""
    graph, x, expected = _network()
    numpy, numba = (_result(graph, backend, x) for backend in ("numpy", "numba"))
    if not np.array_equal(numpy, expected):
        return Line("test", FAIL, f"backend numpy: {_said(numpy)}", "install deepchip again")
    if isinstance(numba, str):
        return Line(
            "test", FAIL, f"backend numpy works; backend numba: {numba}", "use backend='numpy'"
        )
    if not np.array_equal(numba, expected):
        return Line(
            "test", FAIL, f"backend numba: {_said(numba)}",
            "use backend='numpy', and report this with the lines above",
        )  # fmt: skip
    return Line("test", OK, "a ternary layer gives what it has to on both backends")


def _said(result: Any) -> str:
    return result if isinstance(result, str) else "gives a wrong result"


def _result(graph: Graph, backend: str, x: Any) -> Any:
    """Return the output, or why there is none."""
    from .runtime.model import Model

    try:
        with warnings.catch_warnings(), Model(graph, backend=backend) as model:
            warnings.simplefilter("ignore", RuntimeWarning)  # `_cache` says it
            return model(x)
    except (DeepChipError, OSError) as error:
        return str(error)


def _network() -> tuple[Graph, Any, Any]:
    """Return a fully connected layer of levels -1 and 2 on 2-bit codes, an input and its output."""
    from .converter.builder import Builder
    from .formats.csr import CSR
    from .formats.graph import LevelWeights, Quantization, Tensor

    codes = np.array([[2, 0, 1, 1], [0, 1, 0, 2]], np.uint8)
    levels = np.array([-1, 2], np.float32)
    weights = LevelWeights.of((2, 4), levels, CSR.from_dense(codes))
    builder = Builder("test")
    x = builder.input("x", (4,))
    held = builder.add("Quantize", [x], "codes", quantization=Quantization(1.0, 0, 2))
    tensors: dict[str, Tensor] = {"weight": weights, "bias": np.array([0, 1], np.float32)}
    graph = builder.finish([builder.add("FullyConnected", [held], "sum", tensors=tensors)])
    # 2 * 1 - 3 - 1 + 0 and -2 + 2 * 1 + 1
    return graph, np.array([[1, 2, 3, 1]], np.float32), np.array([[-2, 1]], np.float32)


def _cache() -> Line:
    """Look at the folder of compiled kernels; `_kernels` has used it."""
    folder = kernel_cache.cache_folder()
    kept = len(list(folder.glob("*.kernel")))
    remedy = "set DEEPCHIP_CACHE_DIR to a folder that is yours and writable"
    if not kernel_cache.works():
        return Line("kernel cache", WARN, f"{folder} cannot be used", remedy)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        held = f"{kept} kernels kept" if kept else "none kept: every start compiles"
        return Line("kernel cache", WARN, f"{folder} is not writable, {held}", remedy)
    return Line(
        "kernel cache", OK, f"{folder}, {kept} kernels",
        "" if kept > FEW else "deepchip warmup net.dchip compiles what your network needs",
    )  # fmt: skip


def _processor(machine: Machine) -> Line:
    found = ", ".join([machine.cpu or "unknown", f"{machine.cores} cores", *machine.simd])
    vectors = {"NEON", "AVX2"} & set(machine.simd)
    if vectors or (not machine.simd and machine.architecture not in ("x86_64", "aarch64")):
        return Line("processor", OK, found)
    return Line("processor", WARN, found, "kernels are made for NEON and AVX2; it will be slow")


def _memory(machine: Machine, state: State) -> Line:
    if machine.memory_bytes is None or state.available_bytes is None:
        return Line("memory", OK, "unknown")
    swap = machine.swap_bytes or 0
    found = (
        f"{machine.memory_bytes / 1e6:,.0f} MB, {state.available_bytes / 1e6:,.0f} available; "
        + (f"{swap / 1e6:,.0f} MB of swap" if swap else "no swap")
    )
    if state.available_bytes >= NEEDED:
        return Line("memory", OK, found)
    return Line(
        "memory", WARN, found,
        "a process takes about 150 MB and the model: stop other programs, or use backend='numpy', "
        "which takes 100 MB less",
    )  # fmt: skip


def _clock(machine: Machine, state: State) -> Iterator[Line]:
    if state.governor:
        found = f"governor {state.governor}"
        if state.clock_mhz is not None and state.max_clock_mhz is not None:
            found += f", {state.clock_mhz:,.0f} of {state.max_clock_mhz:,.0f} MHz now"
        slow = state.governor == "powersave" and state.driver not in FOLLOWING
        yield Line("clock", WARN if slow else OK, found, "" if state.governor == "performance" else
                   f"{'' if slow else 'for even latency: '}{PERFORMANCE}")  # fmt: skip
    if state.temperature_c is not None:
        hot = state.temperature_c >= HOT
        remedy = "cool it: a hot Raspberry Pi lowers its clock" if hot else ""
        yield Line("temperature", WARN if hot else OK, f"{state.temperature_c:.0f} °C", remedy)


PERFORMANCE = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"


def _firmware(machine: Machine, state: State) -> Iterator[Line]:
    """Say what a Raspberry Pi's firmware and sensor of its supply say."""
    if state.throttled:
        words = "; ".join(machines.throttling(state.throttled))
        now = state.throttled & 0xF
        yield Line(
            "throttling", WARN if now else OK, words,
            "use the power supply that belongs to the board, and cool it",
        )  # fmt: skip
    elif state.throttled == 0:
        yield Line("throttling", OK, "none since the start")
    elif machine.board.startswith("Raspberry Pi"):
        yield Line(
            "throttling", WARN if state.low_voltage else OK,
            "voltage of the supply too low" if state.low_voltage else "unknown, without vcgencmd",
            "sudo apt install raspi-utils, and be in the group video: sudo usermod -aG video $USER",
        )  # fmt: skip
