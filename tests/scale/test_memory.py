"""Memory stays bounded: in a process that may not have more than a part of what it reads."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from numpy.lib import format as npy
from PIL import Image

from deepchip.formats.model_file import write_model
from tests.checks import patient

from .networks import classifier, relu

MEGABYTE = 2**20

CHILD = """
import json, resource, sys
import numpy as np
import deepchip
from deepchip.runtime.memory import peak_resident
from deepchip.runtime.score import score

def data():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmData"))

folder, source, target, limit = sys.argv[1:]
model = deepchip.load(f"{folder}/net.dchip")
model(np.zeros((1, *model.inputs[0].shape[1:]), np.float32))
score(model, f"{folder}/first", f"{folder}/first.npz")  # imports, threads and their stacks
before = peak_resident()
resource.setrlimit(resource.RLIMIT_DATA, (data() + int(limit), resource.RLIM_INFINITY))
found = score(model, f"{folder}/{source}", f"{folder}/{target}")
print(json.dumps([found.count, peak_resident() - before]))
"""


def run(folder, source, target, limit):
    """Score in a process that gets `limit` bytes more; return what it counted, and its growth."""
    arguments = [folder, source, target, limit]
    found = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        capture_output=True, text=True, timeout=patient(120),
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def save_zeros(path, shape):
    """Write a .npy file of zeros without writing them: a sparse file."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with open(path, "wb") as file:
        npy.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * int(np.prod(shape)))


def photo(path, seed, size):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, quality=50)


@pytest.mark.parametrize("target", ["y.npy", "y.npz"])
def test_an_array_several_times_larger_than_memory(tmp_path, target):
    """1 GB is read; a process that maps or holds it all fails at 64 MB."""
    write_model(classifier((3, 256, 256)), tmp_path / "net.dchip")
    save_zeros(tmp_path / "first", (2, 3, 256, 256))
    save_zeros(tmp_path / "x.npy", (1300, 3, 256, 256))
    count, growth = run(tmp_path, "x.npy", target, 64 * MEGABYTE)
    assert count == 1300
    assert growth < 64 * MEGABYTE
    found = np.load(tmp_path / target)
    assert (found if target == "y.npy" else found["logits"]).shape == (1300, 5)


def test_outputs_several_times_larger_than_memory(tmp_path):
    write_model(relu(2**20), tmp_path / "net.dchip")
    save_zeros(tmp_path / "first", (2, 2**20))
    save_zeros(tmp_path / "x.npy", (100, 2**20))
    count, growth = run(tmp_path, "x.npy", "y.npy", 64 * MEGABYTE)
    assert count == 100
    assert growth < 64 * MEGABYTE
    assert (tmp_path / "y.npy").stat().st_size > 400 * MEGABYTE


def test_images_that_would_not_fit_together(tmp_path):
    """500 images are 300 MB as inputs of 3 x 224 x 224."""
    write_model(classifier((3, 224, 224)), tmp_path / "net.dchip")
    for folder, count in (("first", 1), ("photos", 500)):
        (tmp_path / folder).mkdir()
        for index in range(count):
            photo(tmp_path / folder / f"{index:03}.jpg", index, (32, 48))
    count, growth = run(tmp_path, "photos", "y.npz", 64 * MEGABYTE)
    assert count == 500
    assert growth < 64 * MEGABYTE
