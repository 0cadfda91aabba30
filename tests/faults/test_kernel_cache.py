"""The folder of compiled kernels in every bad state: right results, at most one warning."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from numba.core import config

from deepchip.formats import kernel_cache

from .processes import INPUTS, OUTPUTS, SECONDS, run_python, written
from .small_disks import small_disk

pytestmark = pytest.mark.skipif(
    bool(config.DISABLE_JIT), reason="nothing is compiled under NUMBA_DISABLE_JIT"
)

CALL = f"""
import sys, warnings, shutil
import numpy as np
import deepchip
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = deepchip.load(sys.argv[1])
    if len(sys.argv) > 2:
        shutil.rmtree(sys.argv[2])
    found = model(np.array({INPUTS}, np.float32))
print(found.tolist())
for warning in caught:
    print(warning.category.__name__, warning.message)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return written(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def filled(model, tmp_path_factory):
    """A cache folder with the model's kernels."""
    folder = tmp_path_factory.mktemp("filled")
    call(model, folder)
    assert kernels(folder)
    return folder


def call(model, cache, *arguments):
    """Call the model in a process; return the warnings."""
    first, *warnings = run_python(CALL, model, *arguments, cache=cache).stdout.splitlines()
    assert first == str(OUTPUTS)
    return warnings


def kernels(cache):
    return {path.name: path for path in cache.rglob("*.kernel")}


def copy(filled, folder):
    """Return a copy of a filled cache, which may be spoilt."""
    for path in kernels(filled).values():
        target = folder / path.parent.name
        target.mkdir(mode=0o700, exist_ok=True)
        (target / path.name).write_bytes(path.read_bytes())
    return folder


def test_what_is_there_is_taken(model, filled):
    before = times(filled)
    assert call(model, filled) == []
    assert times(filled) == before


def random_bytes(data):
    return np.random.default_rng(5).bytes(len(data))


def one_bit(data):
    """Deep in the machine code: run, it would do anything."""
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 16]) + data[len(data) // 2 + 1 :]


def times(cache):
    return {name: path.stat().st_mtime_ns for name, path in kernels(cache).items()}


def test_damaged_kernels_are_compiled_again_and_replaced(model, filled, tmp_path):
    cache = copy(filled, tmp_path)
    for number, path in enumerate(kernels(cache).values()):
        spoil = (random_bytes, one_bit)[number % 2]
        path.write_bytes(spoil(path.read_bytes()))
    assert call(model, cache) == []
    replaced = times(cache)
    assert replaced.keys() == kernels(filled).keys()
    assert call(model, cache) == []
    assert times(cache) == replaced


@pytest.mark.parametrize(
    "spoil",
    [random_bytes, one_bit, lambda data: b"", lambda data: data[:-1], lambda data: data[:20],
     lambda data: data[:32], lambda data: data + b"x", lambda data: b"\x80\x04K\x01."],
    ids=["random", "one bit", "empty", "cut", "short", "a seal", "longer", "a pickle"],
)  # fmt: skip
def test_damaged_kernels_count_as_none(spoil, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCHIP_CACHE_DIR", str(tmp_path))
    kernel_cache.save("f", b"key", bytes(1000))
    (path,) = kernels(tmp_path).values()
    path.write_bytes(spoil(path.read_bytes()))
    assert kernel_cache.load("f", b"key") is None


def test_a_kernel_in_the_place_of_another_is_none(model, filled, tmp_path):
    """As of another CPU, Numba or function: the seal covers what a kernel was made for."""
    cache = copy(filled, tmp_path)
    paths = list(kernels(cache).values())
    data = [path.read_bytes() for path in paths]
    for path, other in zip(paths, data[1:] + data[:1], strict=True):
        path.write_bytes(other)
    assert call(model, cache) == []


@pytest.mark.parametrize("key", [b"another CPU", b"another Numba"])
def test_the_seal_covers_the_key(key, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCHIP_CACHE_DIR", str(tmp_path))
    assert kernel_cache.save("f", b"this", b"code")
    assert kernel_cache.load("f", b"this") == b"code"
    (path,) = kernels(tmp_path).values()
    assert kernel_cache.load("f", key) is None
    path.rename(kernel_cache._path(path.parent, "f", key))
    assert kernel_cache.load("f", key) is None


def test_folders_in_the_place_of_kernels(model, filled, tmp_path):
    cache = copy(filled, tmp_path)
    for path in kernels(cache).values():
        path.unlink()
        path.mkdir()
    (warning,) = call(model, cache)
    assert "compiled anew" in warning


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(model, tmp_path):
    tmp_path.chmod(0o500)
    (warning,) = call(model, tmp_path)
    assert "not writable" in warning


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_filled_folder_need_not_be_writable(model, filled, tmp_path):
    """As in a container whose image holds the kernels."""
    cache = copy(filled, tmp_path)
    for path in kernels(cache).values():
        path.parent.chmod(0o500)
    assert call(model, cache) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone may give files away")
def test_what_others_could_have_written_is_not_run(model, filled, tmp_path):
    """Kernels are machine code, and pickles before that."""
    cache = copy(filled, tmp_path)
    (folder,) = {path.parent for path in kernels(cache).values()}
    os.chown(folder, 12345, 12345)
    (warning,) = call(model, cache)
    assert "belongs to another user" in warning


def test_what_anyone_may_write_is_not_run(model, filled, tmp_path):
    cache = copy(filled, tmp_path)
    (folder,) = {path.parent for path in kernels(cache).values()}
    folder.chmod(0o777)
    (warning,) = call(model, cache)
    assert "anyone may write to it" in warning


def test_a_full_disk(model):
    with small_disk(64 * 1024) as folder:
        (warning,) = call(model, folder)
        assert "No space left on device" in warning
        assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_removed_while_it_is_used(model, tmp_path):
    assert call(model, tmp_path, tmp_path) == []


def test_removed_before_it_is_filled(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCHIP_CACHE_DIR", str(tmp_path / "gone"))
    assert kernel_cache.save("f", b"key", b"code")
    assert kernel_cache.load("f", b"key") == b"code"


def test_two_processes_fill_it_at_once(model, tmp_path):
    environment = {**os.environ, "DEEPCHIP_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", CALL, str(model)]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=SECONDS)[0] for process in both] == [f"{OUTPUTS}\n"] * 2
    assert call(model, tmp_path) == []
    assert all(path.suffix == ".kernel" for path in tmp_path.rglob("*") if path.is_file())
