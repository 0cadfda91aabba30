"""Whether this machine computes the same bits as another one.

    python -m tests.golden.logits make FOLDER        on one machine
    python -m tests.golden.logits check FOLDER       on the other

`make` converts the networks of `bench.networks`, for small images, with activations of 4 and of 8
bits, and keeps the model files, the images, and a SHA-256 of every value that is codes and of every
output. `check` runs the same files, and says which values differ; it needs nothing but the runtime.
It does not convert: calibration is in float32, whose sums no two machines do in one order.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import Graph
from deepchip.formats.model_file import read_model
from deepchip.runtime.plan import BACKENDS, make_plan

BITS = (4, 8)
IMAGES = 2
DIGESTS = "digests.json"


def make(folder: Path, networks: Sequence[str] = ()) -> None:
    """Write model files, images and digests of some networks, or of all."""
    import onnx

    import deepchip
    from bench.networks import NETWORKS, build, images
    from tests.bench.test_networks import small_image

    folder.mkdir(parents=True, exist_ok=True)
    known: dict[str, dict[str, str]] = {}
    for name in networks or NETWORKS:
        image = small_image(name)
        x = images(name, IMAGES, image=image)
        np.save(folder / f"{name}.npy", x)
        with tempfile.TemporaryDirectory() as work:
            source = Path(work) / "net.onnx"
            onnx.save(build(name, image=image), source)
            for bits in BITS:
                path = folder / f"{name}-{bits}.dchip"
                deepchip.convert(source, path, activations=bits, calibration=x)
                known[path.name] = _digests(path, x, "numba")
    (folder / DIGESTS).write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def check(folder: Path, backend: str = "numba") -> Iterator[str]:
    """Yield a line for each model file: how many values it has, and which of them differ."""
    known = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    for name, expected in known.items():
        x = np.load(folder / f"{name.rpartition('-')[0]}.npy")
        found = _digests(folder / name, x, backend)
        values = expected.keys() | found.keys()
        other = sorted(value for value in values if found.get(value) != expected.get(value))
        yield f"{name}: {len(values)} values, {len(other)} differ {' '.join(other)}".rstrip()


def _digests(path: Path, x: NDArray[np.float32], backend: str) -> dict[str, str]:
    graph = read_model(path, compiled=backend == "numba")
    names = [*_codes(graph), *graph.outputs]
    values = make_plan(graph, backend, keep=names).run({graph.inputs[0]: x}, names)
    return {name: hashlib.sha256(values[name].tobytes()).hexdigest() for name in names}


def _codes(graph: Graph) -> list[str]:
    """Return the values that are codes and that a node gives; outputs never are."""
    return [node.output for node in graph.nodes if graph.values[node.output].quantization]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("command", choices=("make", "check"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="*", default=(), help="of bench.networks, to make")
    parser.add_argument("--backend", choices=BACKENDS, default="numba", help="to check")
    options = parser.parse_args()
    if options.command == "make":
        make(options.folder, options.networks)
        return
    differ = False
    for line in check(options.folder, options.backend):
        print(line, flush=True)
        differ |= not line.endswith(" 0 differ")
    sys.exit("other bits than on the machine that made the folder" if differ else None)


if __name__ == "__main__":
    main()
