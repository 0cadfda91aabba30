"""Our runtime beside the runtimes that users would otherwise install, on the same networks.

    python bench/peers.py --networks alexnet,resnet18 --bits 4,8 --threads 1,2 --batch 1,16

Networks have random ternary weights; the peers run them in float32 and int8. All are timed in one
process, for each size of batch and number of threads, in turns (A B C, A B C, ...), then each in a
process of its own: the time from its start to the first result, and the most memory that it held.
Needs: pip install 'deepchip[bench]'.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import networks
import numpy as np
from numpy.typing import NDArray
from peers_files import INT8, Files
from peers_runtimes import RUNTIMES, Run

from deepchip.converter.progress import bar
from deepchip.runtime.table import table

PEERS = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}

TURN = 0.03
"""Seconds that a turn lasts at least: a small network is called again until then, so that each
finds its weights in the caches, as it does where it runs alone."""

PAUSE = 0.1
"""Seconds before a turn, where several threads are measured: ONNX Runtime's keep a core busy for
0.05 s after a call, which would slow down whoever comes next."""

STARTS = 3
"""Processes started for each contender; the median counts."""


@dataclass(frozen=True)
class Contender:
    """A runtime and the file that it loads. `kind` is "float32", "int8" or "4-bit" and so on."""

    runtime: str
    kind: str
    path: Path

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"{PEERS.get(self.runtime, 'DeepChip')} {self.kind}"


@dataclass(frozen=True)
class Speed:
    """How fast a contender is.

    Attributes
    ----------
    ms, ms_least : milliseconds a batch, median and least of the turns' medians
    images_per_second : by the median
    to_int8, to_float32 : how many times as fast as the fastest int8 peer, and as ONNX Runtime in
        float32, median over the turns; None where that is missing
    to_first : how many times as many images a second as itself with the first size of batch and
        number of threads, median over the turns
    cosine : of its logits and those of the first contender, which is float32 if a peer is there
    """

    network: str
    batch: int
    threads: int
    contender: str
    file: str
    ms: float
    ms_least: float
    images_per_second: float
    to_int8: float | None
    to_float32: float | None
    to_first: float
    cosine: float


@dataclass(frozen=True)
class Start:
    """What a process that loads a network and runs it once takes, one image, one thread."""

    network: str
    contender: str
    seconds: float
    peak_bytes: int
    file_bytes: int


def main() -> None:
    """Measure, print tables, write JSON."""
    options = _options()
    runtimes = [name for name in RUNTIMES if _installed(name)]
    for name in RUNTIMES.keys() - runtimes:
        print(f"{name} is not installed (pip install {name}): left out")
    speeds: list[Speed] = []
    starts: list[Start] = []
    for network in options.networks:
        with _folder(options.work) as folder:
            files = Files(Path(folder), network, options.zeros)
            contenders = list(_contenders(files, runtimes, options.bits))
            timed = _time(network, contenders, options)
            speeds += timed
            starts += _start_all(network, contenders, timed)
        if options.json:  # anew behind each network: a long run that ends early is not lost
            result = {
                "machine": _machine(runtimes),
                "zeros": options.zeros,
                "runs": options.runs,
                "speed": [asdict(speed) for speed in speeds],
                "start": [asdict(start) for start in starts],
            }
            options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _folder(kept: Path | None) -> AbstractContextManager[str | Path]:
    if kept is None:
        return tempfile.TemporaryDirectory()
    kept.mkdir(parents=True, exist_ok=True)
    return nullcontext(kept)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )

    def add(flag: str, kind: Callable[[str], Any], default: object, text: str) -> None:
        parser.add_argument(flag, type=kind, default=default, help=text)

    known = "alexnet,vgg16,googlenet,resnet18,resnet50,squeezenet,resnet44,resnet20,lenet"
    add("--networks", _list(str, networks.NETWORKS), known, "networks, by commas")
    add("--bits", _list(int, range(1, 9)), "4,8", "bits of our activations")
    add("--threads", _list(int, range(1, 257)), "1,2", "numbers of threads")
    add("--batch", _list(int, range(1, 4097)), "1,16", "images a call")
    add("--zeros", float, 0.63, "share of weights that are zero")
    add("--runs", int, 15, "turns of each contender")
    add("--json", Path, None, "file to write the results to")
    add("--work", Path, None, "folder that keeps the networks for the next time")
    return parser.parse_args()


def _list(kind: Callable[[str], Any], allowed: Any) -> Callable[[str], list[Any]]:
    def parse(text: str) -> list[Any]:
        items = [kind(part) for part in text.split(",")]
        for item in items:
            if item not in allowed:
                choices = ", ".join(map(str, allowed)) if kind is str else f"{allowed}"
                raise argparse.ArgumentTypeError(f"{item!r}, expected some of {choices}")
        return items

    return parse


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _contenders(files: Files, runtimes: Sequence[str], bits: Sequence[int]) -> Iterator[Contender]:
    """Yield the contenders, an int8 peer once for each type of activations."""
    peers = [name for name in runtimes if name in PEERS]
    for name in peers:
        yield Contender(name, "float32", files.float32())
    if "onnxruntime" in runtimes:  # its quantization makes the file for both
        for name in peers:
            for activations in INT8:
                yield Contender(name, "int8", files.int8(activations))
    for count in bits:
        yield Contender("deepchip", f"{count}-bit", files.ours(count))


def _time(
    network: str, contenders: Sequence[Contender], options: argparse.Namespace
) -> list[Speed]:
    """Time the contenders for every size of batch and number of threads, all of it in turns."""
    settings = [
        _prepare(network, contenders, batch, threads)
        for batch in options.batch
        for threads in options.threads
    ]
    pause = PAUSE if max(options.threads) > 1 else 0.0
    for _ in bar(range(options.runs), f"{network}: timing"):
        for setting in settings:
            for name, run in setting.runs.items():
                setting.times[name].append(_turn(run, setting.images, pause))
    speeds = []
    for setting in settings:
        found = _speeds(network, setting, settings[0])
        print(f"\n{_speed_table(found)}\n", flush=True)
        speeds += found
    return speeds


@dataclass(frozen=True)
class Setting:
    """A size of batch and a number of threads, and by contender what is known of it there.

    Attributes
    ----------
    runs, files, logits : how it is called, which file it took, and what it gave
    times : seconds a batch of each turn
    """

    threads: int
    images: NDArray[np.float32]
    runs: dict[str, Run] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    logits: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def batch(self) -> int:
        """Images a call."""
        return len(self.images)


def _prepare(network: str, contenders: Sequence[Contender], batch: int, threads: int) -> Setting:
    """Load the contenders; of those of one name, the faster in a first turn stays."""
    setting = Setting(threads, networks.images(network, batch))
    first: dict[str, float] = {}
    for contender in bar(contenders, f"{network}: loading, batch {batch}, threads {threads}"):
        run = RUNTIMES[contender.runtime](contender.path, threads, setting.images.shape)
        result = np.array(run(setting.images))
        seconds = _turn(run, setting.images, PAUSE)
        name = contender.name
        if seconds < first.get(name, np.inf):
            setting.runs[name], setting.files[name] = run, contender.path.name
            setting.logits[name], first[name] = result, seconds
    return setting


def _speeds(network: str, setting: Setting, first: Setting) -> list[Speed]:
    """Work out what the turns of a setting, and those of the first, tell of each contender."""
    times = setting.times
    medians = {name: median(found) for name, found in times.items()}
    int8 = min((name for name in times if name.endswith("int8")), key=medians.get, default="")
    reference = next(iter(setting.logits.values()))
    return [
        Speed(
            network,
            setting.batch,
            setting.threads,
            name,
            setting.files[name],
            1e3 * seconds,
            1e3 * min(times[name]),
            setting.batch / seconds,
            _ratio(times.get(int8), times[name]),
            _ratio(times.get(f"{PEERS['onnxruntime']} float32"), times[name]),
            setting.batch / first.batch * _ratio(first.times[name], times[name]),
            _cosine(setting.logits[name], reference),
        )
        for name, seconds in medians.items()
    ]


def _turn(run: Run, images: NDArray[np.float32], pause: float) -> float:
    """Return the median seconds of a call, over calls for `TURN` seconds behind a first one."""
    time.sleep(pause)
    times: list[float] = []
    end = time.perf_counter() + TURN
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    return median(times[1:])


def _ratio(slow: Sequence[float] | None, fast: Sequence[float]) -> float | None:
    """Return how many times as fast `fast` is, the median of turns: noise hits neighbours alike."""
    return slow and median(x / y for x, y in zip(slow, fast, strict=True))


def _cosine(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


def _start_all(
    network: str, contenders: Sequence[Contender], speeds: Sequence[Speed]
) -> list[Start]:
    """Start each contender, with the file that was the fastest for the first size of batch."""
    files = {speed.contender: speed.file for speed in reversed(speeds)}
    chosen = [c for c in contenders if files[c.name] == c.path.name]
    starts = [_start(network, contender) for contender in bar(chosen, f"{network}: starting")]
    print(f"{_start_table(starts)}\n", flush=True)
    return starts


def _start(network: str, contender: Contender) -> Start:
    """Start processes that run one image on one thread; the files are in the system's cache."""
    shape = ",".join(map(str, (1, *networks.NETWORKS[network].image)))
    child = Path(__file__).with_name("peers_child.py")
    command = [sys.executable, str(child), contender.runtime, str(contender.path), "1", shape]
    seconds, peaks = [], []
    for _ in range(STARTS):
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            ready = process.stdout.readline()
            seconds.append(time.perf_counter() - start)
            peak = process.stdout.read()
        if ready != "ready\n" or process.returncode:
            raise SystemExit(f"{contender.name}, {network}: exit status {process.returncode}")
        peaks.append(int(peak))
    size = contender.path.stat().st_size
    return Start(network, contender.name, median(seconds), int(median(peaks)), size)


def _speed_table(speeds: Sequence[Speed]) -> str:
    first = speeds[0]
    head = (
        f"{first.network}, batch {first.batch}, {first.threads} threads",
        *("ms", "least", "images/s", "to int8", "to float32", "to first", "cosine"),
    )
    return table(
        head,
        [
            (
                speed.contender,
                f"{speed.ms:.3f}",
                f"{speed.ms_least:.3f}",
                f"{speed.images_per_second:.1f}",
                *("-" if x is None else f"{x:.2f}" for x in (speed.to_int8, speed.to_float32)),
                f"{speed.to_first:.2f}",
                f"{speed.cosine:.4f}",
            )
            for speed in speeds
        ],
    )


def _start_table(starts: Sequence[Start]) -> str:
    head = ("network", "contender", "start s", "peak MB", "file MB")
    return table(
        head,
        [
            (
                start.network,
                start.contender,
                f"{start.seconds:.2f}",
                f"{start.peak_bytes / 1e6:.0f}",
                f"{start.file_bytes / 1e6:.2f}",
            )
            for start in starts
        ],
    )


def _machine(runtimes: Sequence[str]) -> dict[str, object]:
    """Return what the results depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    packages = ("numpy", "numba", *runtimes)
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],  # 1 is of this process
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages if _installed(name)},
    }


if __name__ == "__main__":
    main()
