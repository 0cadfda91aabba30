"""Instructions that an inference takes on a Raspberry Pi, ours beside ONNX Runtime's.

    python bench/pi.py --rig RIG --networks lenet,resnet18,alexnet --cpus cortex-a72,cortex-a76

One thread, one image, random ternary weights. RIG is a command that runs programs of an emulated Pi
(or set PI_RIG):

    RIG count -c CPU -b BLOCKS -- python3 ...
        runs that, and prints `... region=1 insns=NUMBER ...` of what it marks as `pi_child.py` does
    RIG cycles -c CPU BLOCKS 0
        prints `region 1 insns NUMBER CPU cycles NUMBER ...`

The emulated Pi sees the folder that RIG is started in, and has NumPy, Numba, h5py and ONNX Runtime.
Counts are exact. Cycles are a prediction, from the ports of the core that the executed code needs
(llvm-mca), each load being taken to hit the first-level cache: a lower bound, to compare with. The
Pi's memory is slower than that, so bytes moved are printed beside them: each operation's weights
and buffers, once. Times under emulation say nothing, and none are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import networks
from peers_files import INT8, Files

import deepchip
from deepchip.runtime.arena import Buffer
from deepchip.runtime.program import Program
from deepchip.runtime.table import table

CPUS = {"cortex-a53": "A53 (Pi 3)", "cortex-a72": "A72 (Pi 4)", "cortex-a76": "A76 (Pi 5)"}
SOURCES = {
    "deepchip": "src/deepchip",
    "deepchip/formats": "formats",
    "deepchip/converter": "converter",
    "deepchip/runtime": "runtime",
}
"""Where the packages lie that the emulated Pi is given."""


@dataclass(frozen=True)
class Count:
    """What one image takes.

    Attributes
    ----------
    kind : "float32", "int8", "4-bit" and so on
    instructions : executed
    cycles : predicted
    moved : bytes, None for peers
    """

    network: str
    cpu: str
    kind: str
    file: str
    instructions: int
    cycles: int
    moved: int | None


def main() -> None:
    """Count, print tables, write JSON."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    lay_out(options.work)
    counts: list[Count] = []
    for network in options.networks:
        files = list(_files(Files(options.work, network, options.zeros), options.bits))
        for cpu in options.cpus:
            found = [_count(options, network, cpu, *file) for file in files]
            counts += _least(found)
        print(f"\n{_table(network, [c for c in counts if c.network == network])}\n", flush=True)
        if options.json:
            rows = [asdict(count) for count in counts]
            options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = options_of(__doc__, "lenet,resnet18,alexnet")
    known = names_of(CPUS, "CPU")
    parser.add_argument("--cpus", type=known, default=",".join(CPUS))
    bits = names_of(list("12345678"), "number of bits")
    parser.add_argument("--bits", type=bits, default="4,8", help="of our activations")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    return parser.parse_args()


def options_of(text: str, default: str) -> argparse.ArgumentParser:
    """Return a parser of the options of what measures networks on the emulated Pi."""
    parser = argparse.ArgumentParser(
        description=text.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    rig = os.environ.get("PI_RIG")
    parser.add_argument("--rig", type=shlex.split, default=rig, required=rig is None)
    parser.add_argument("--networks", type=names_of(networks.NETWORKS, "network"), default=default)
    parser.add_argument("--zeros", type=float, default=0.63, help="share of weights")
    parser.add_argument("--work", type=Path, default="build/pi", help="folder that keeps files")
    return parser


def names_of(known: Collection[str], what: str) -> Callable[[str], list[str]]:
    """Return what makes a list of names, all of them known, of text with commas."""

    def names(text: str) -> list[str]:
        found = text.split(",")
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"no {what} {name!r}; expected some of {', '.join(known)}"
                )
        return found

    return names


def lay_out(work: Path) -> None:
    """Put the package and the counted program where the emulated Pi sees them."""
    root = Path(__file__).parents[1]
    package = work / "site"
    shutil.rmtree(package, ignore_errors=True)
    for target, source in SOURCES.items():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / source, package / target, ignore=ignored)
    for name in ("pi_child.py", "peers_runtimes.py"):
        shutil.copy(Path(__file__).with_name(name), package)


def surroundings(work: Path) -> dict[str, str]:
    """Return the environment of the emulated Pi's programs."""
    return {
        **os.environ,
        "PYTHONPATH": str((work / "site").resolve()),
        "DEEPCHIP_CACHE_DIR": str((work / "kernels").resolve()),
    }


def _files(files: Files, bits: Sequence[str]) -> Iterator[tuple[str, str, Path, int | None]]:
    """Yield what is counted: runtime, kind, file, bytes moved."""
    yield "onnxruntime", "float32", files.float32(), None
    for activations in INT8:
        yield "onnxruntime", "int8", files.int8(activations), None
    for count in bits:
        path = files.ours(int(count))
        yield "deepchip", f"{count}-bit", path, _moved(path)


def _moved(path: Path) -> int:
    """Return the bytes of weights and buffers that the operations of a model read and write."""
    program = deepchip.load(path).plan
    assert isinstance(program, Program)
    moved = program.executed_bytes
    for operation in program.operations:
        moved += sum(x.size for x in operation.fields.values() if isinstance(x, Buffer))
    return moved


def _count(
    options: argparse.Namespace,
    network: str,
    cpu: str,
    runtime: str,
    kind: str,
    path: Path,
    moved: int | None,
) -> Count:
    """Run a file's network on the emulated Pi."""
    shape = ",".join(map(str, (1, *networks.NETWORKS[network].image)))
    blocks = options.work / "blocks"
    blocks.unlink(missing_ok=True)
    program = ["python3", "site/pi_child.py", runtime, path.name, shape]
    if runtime == "deepchip":  # kernels are compiled quicker where nothing is counted
        warm = ["python3", "-m", "deepchip", "warmup", path.name]
        said([*options.rig, "run", "-c", cpu, "--", *warm], options.work)
    command = [*options.rig, "count", "-c", cpu, "-b", blocks.name, "--", *program]
    told = said(command, options.work)
    cycles = said([*options.rig, "cycles", "-c", cpu, blocks.name, "0"], options.work)
    return Count(
        network,
        cpu,
        kind,
        path.name,
        _number(r"region=1 insns=(\d+)", told),
        _number(r"region 1 .* cycles (\d+)", cycles),
        moved,
    )


def said(command: Sequence[str], folder: Path) -> str:
    """Return what a command prints, or end with it where it fails."""
    done = subprocess.run(
        command, cwd=folder, env=surroundings(folder), capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    if done.returncode:
        sys.exit(f"{shlex.join(command)}: exit status {done.returncode}\n{said}")
    return said


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        sys.exit(f"the rig printed nothing like {pattern!r}:\n{text}")
    return int(found[1])


def _least(counts: Sequence[Count]) -> list[Count]:
    """Return one of each kind: of ONNX Runtime's two int8 files that with fewer instructions."""
    best: dict[str, Count] = {}
    for count in counts:
        if count.kind not in best or count.instructions < best[count.kind].instructions:
            best[count.kind] = count
    return list(best.values())


def _table(network: str, counts: Sequence[Count]) -> str:
    head = (
        f"{network}, one thread, batch 1",
        *("", "M instructions", "of float32", "of int8"),
        *("predicted M cycles", "of int8", "MB moved"),
    )
    rows = []
    for cpu in dict.fromkeys(count.cpu for count in counts):
        known = {count.kind: count for count in counts if count.cpu == cpu}
        for kind, count in known.items():
            rows.append(
                (
                    CPUS[cpu],
                    kind,
                    f"{count.instructions / 1e6:.2f}",
                    f"{count.instructions / known['float32'].instructions:.1%}",
                    f"{count.instructions / known['int8'].instructions:.1%}",
                    f"{count.cycles / 1e6:.2f}",
                    f"{count.cycles / known['int8'].cycles:.1%}",
                    "-" if count.moved is None else f"{count.moved / 1e6:.1f}",
                )
            )
    return table(head, rows)


if __name__ == "__main__":
    main()
