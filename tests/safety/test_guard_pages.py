"""No kernel touches what is not its own: networks in guarded memory, in a process that may die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import onnx
import pytest

import deepchip
from bench.networks import build, images
from deepchip.formats.jit import Kernel
from deepchip.runtime.kernels import compiled
from tests.checks import patient
from tests.test_demo import EXPORT

from .pages import Edge

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="protected pages are asked for as Linux does"
)

EDGES = [edge.value for edge in Edge]
FIELD = {"resnet20": (3, 16, 16), "mobilenet_v1": (3, 32, 32), "squeezenet": (3, 40, 40)}
"""Networks of the field, and the images that they are run on."""
PATIENCE = patient(600)
"""Seconds after which a process hangs; kernels that were not compiled before take most of it."""


def run_child(folder, edge, *arguments, **settings):
    """Run networks in a child, which has to live, and return what it did.

    settings : of its environment
    """
    log = folder / "log"
    command = [sys.executable, "-m", "tests.safety.child", str(log), edge, *map(str, arguments)]
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=False,
        env=environment(**settings),
    )  # fmt: skip
    if found.returncode:
        pytest.fail(f"{log.read_text()}\n{found.stderr[-4000:]}", pytrace=False)
    return json.loads(found.stdout.splitlines()[-1])


def environment(**settings):
    """The environment of a child, which finds the tests that this process found."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **settings}


@pytest.fixture(scope="module", params=EDGES)
def chosen_networks(request, tmp_path_factory):
    """What came of every operator, and of networks at the ends of what a file may say."""
    folder = tmp_path_factory.mktemp("chosen")
    return [run_child(folder, request.param, what) for what in ("operators", "extremes")]


def test_every_kernel_runs(chosen_networks):
    modules = [
        import_module(f"{compiled.__name__}.{m.name}") for m in iter_modules(compiled.__path__)
    ]
    kernels = {
        value.__name__ for m in modules for value in vars(m).values() if isinstance(value, Kernel)
    }
    assert {name for done in chosen_networks for name in done["ran"]} == kernels


@pytest.mark.parametrize("edge", EDGES)
def test_random_networks(edge, tmp_path):
    assert run_child(tmp_path, edge, "random", EDGES.index(edge), 40)["networks"] == 40


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 15))
@pytest.mark.parametrize("edge", EDGES)
def test_many_random_networks(edge, seed, tmp_path):
    assert run_child(tmp_path, edge, "random", seed, 500)["networks"] == 500


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The demo's network, and networks of the field on small images, with codes of 4 bits."""
    folder = tmp_path_factory.mktemp("files")
    deepchip.convert(EXPORT, folder / "lenet5.dchip")
    export = tmp_path_factory.mktemp("exports") / "net.onnx"
    for name, image in FIELD.items():
        onnx.save(build(name, image=image), export)
        x = images(name, 2, image=image)
        target = folder / f"{name}.dchip"
        deepchip.convert(export, target, activations=4, calibration=x)
    return folder


@pytest.mark.parametrize("edge", EDGES)
def test_real_networks(edge, files, tmp_path):
    assert run_child(tmp_path, edge, "files", files)["networks"] == 2 * (1 + len(FIELD))
