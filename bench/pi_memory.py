"""Memory that a process with a network takes on a Raspberry Pi, at its peak.

    python bench/pi_memory.py --rig RIG --networks lenet5,squeezenet,resnet18,alexnet

RIG is as in `pi.py`, with `RIG run -c CPU -- python3 ...`. A machine of 1 GB is one whose RIG is
limited, as by `systemd-run --scope -p MemoryMax=1G RIG`. Kernels are compiled in a first run, which
is not measured; see `deepchip warmup`. What a network adds is more than one of a single operator
takes in the same program.

The emulator is a part of the process that it emulates, so what that process's /proc says counts the
emulator's memory too. Only pages below 2**40 are counted here, where a program of the Pi lies, as
seen from outside every 20 ms, in which emulation does what takes a Pi one or two.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import networks
from peers_files import Files
from pi import CPUS, lay_out, options_of, said, surroundings

import deepchip
from deepchip.converter.builder import Builder
from deepchip.formats.graph import Graph
from deepchip.formats.model_file import write_model
from deepchip.runtime.program import Program
from deepchip.runtime.table import table

GUEST = 2**40
"""Addresses below are the emulated program's: a Pi's kernel gives out 2**39 bytes."""
PAUSE = 0.02
"""Seconds between samples."""
CHILD = "site/pi_child.py"
"""What loads a network, and runs it twice."""


def main() -> None:
    """Measure, print a table."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    lay_out(options.work)
    least = options.work / "least.dchip"
    write_model(_least(), least)
    runtime = _peak(options, least, (1, 1))
    rows = []
    for network in options.networks:
        path = Files(options.work, network, options.zeros).ours(options.bits)
        peak = _peak(options, path, (1, *networks.NETWORKS[network].image))
        plan = deepchip.load(path).plan
        assert isinstance(plan, Program)
        sizes = (peak, runtime, peak - runtime, plan.executed_bytes, plan.arena_bytes())
        rows.append((network, *(f"{size / 1e6:.1f}" for size in sizes)))
    print(table(("MB", "peak", "runtime alone", "added", "weights", "arena"), rows))


def _options() -> argparse.Namespace:
    parser = options_of(__doc__, "lenet5,squeezenet,resnet18,alexnet")
    parser.add_argument("--cpu", choices=CPUS, default="cortex-a72")
    parser.add_argument("--bits", type=int, choices=range(1, 9), default=4, help="of activations")
    return parser.parse_args()


def _least() -> Graph:
    net = Builder("least")
    return net.finish([net.add("Relu", [net.input("x", (1,))], "y")])


def _peak(options: argparse.Namespace, path: Path, shape: tuple[int, ...]) -> int:
    """Return the most bytes that a program holds which loads a network and runs it."""
    program = ["python3", CHILD, "deepchip", path.name, ",".join(map(str, shape))]
    command = [*options.rig, "run", "-c", options.cpu, "--", *program]
    said(command, options.work)
    most = 0
    with subprocess.Popen(command, cwd=options.work, env=surroundings(options.work)) as process:
        while process.poll() is None:
            for child in _descendants(process.pid):
                if CHILD in _command(child):
                    most = max(most, _resident(child))
            time.sleep(PAUSE)
    if process.returncode:
        sys.exit(f"{shlex.join(command)}: exit status {process.returncode}")
    return most


def _descendants(pid: int) -> Iterator[int]:
    """Yield a process and all that it started."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return
    for child in children.split():
        yield from _descendants(int(child))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _resident(pid: int) -> int:
    """Return the bytes in memory of a process, below `GUEST`."""
    total, inside = 0, False
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    for line in lines.splitlines():
        first, _, rest = line.partition(" ")
        if "-" in first and not first.endswith(":"):
            inside = int(first.partition("-")[0], 16) < GUEST
        elif inside and first == "Rss:":
            total += 1024 * int(rest.split()[0])
    return total


if __name__ == "__main__":
    main()
