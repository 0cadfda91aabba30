"""Full and read-only disks: what is to be replaced stays whole, and nothing is left behind."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from deepchip.converter.builder import Builder
from deepchip.formats.errors import DeepChipError
from deepchip.formats.files import replacing, write_text
from deepchip.formats.graph import Graph
from deepchip.formats.model_file import model_bytes, read_model, write_model

from .processes import LENET, SECONDS, written
from .small_disks import small_disk

OLD = b"what was there"


def large() -> Graph:
    """One layer of 100 KB."""
    net = Builder("large")
    x = net.input("x", (250,))
    weight = np.random.default_rng(3).standard_normal((100, 250), np.float32)
    return net.finish([net.add("FullyConnected", [x], "fc", tensors={"weight": weight})])


@contextmanager
def file_size_limit(size):
    """No file of this process may grow beyond; writing to it fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def check_untouched(folder, name):
    """The old file is there as it was, and nothing besides."""
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_bytes() == OLD


def run(*arguments, **options):
    command = [sys.executable, "-m", "deepchip", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=False, **options
    )


@pytest.mark.parametrize("size", [4096, 64 * 1024])
def test_a_model_that_does_not_fit_the_disk(size):
    with small_disk(size) as folder:
        (folder / "net.dchip").write_bytes(OLD)
        with pytest.raises(OSError, match=r"No space left on device: '.*/net.dchip'"):
            write_model(large(), folder / "net.dchip")
        check_untouched(folder, "net.dchip")


@pytest.mark.parametrize("size", [0, 1, 4096, 90_000])
def test_a_model_that_exceeds_a_limit(size, tmp_path):
    (tmp_path / "net.dchip").write_bytes(OLD)
    with file_size_limit(size), pytest.raises(OSError, match=r"File too large: '.*/net.dchip'"):
        write_model(large(), tmp_path / "net.dchip")
    check_untouched(tmp_path, "net.dchip")


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_what_fails_after_the_last_byte(step, number, tmp_path, monkeypatch):
    """Some file systems say so only when the bytes have to be on the disk."""

    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    (tmp_path / "page.html").write_bytes(OLD)
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_text(tmp_path / "page.html", "new")
    check_untouched(tmp_path, "page.html")


def test_a_disk_that_gives_back_other_bytes(tmp_path, monkeypatch):
    (tmp_path / "net.dchip").write_bytes(OLD)
    sync = os.fsync

    def spoil(descriptor):
        sync(descriptor)
        os.pwrite(descriptor, b"\xff", 40)

    monkeypatch.setattr(os, "fsync", spoil)
    with pytest.raises((OSError, DeepChipError)):
        write_model(large(), tmp_path / "net.dchip")
    check_untouched(tmp_path, "net.dchip")


def test_converting_onto_a_full_disk():
    with small_disk(8192) as folder:
        (folder / "net.dchip").write_bytes(OLD)
        found = run("convert", LENET, folder / "net.dchip")
        assert (found.returncode, found.stdout) == (1, "")
        assert found.stderr == "deepchip: net.dchip: No space left on device\n"
        check_untouched(folder, "net.dchip")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_running_onto_a_full_disk(suffix, tmp_path):
    model = written(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros((20_000, 2), np.float32))
    arguments = ("run", model, "--backend", "numpy", "--input", tmp_path / "x.npy", "--output")
    with small_disk(32 * 1024) as folder:
        target = folder / f"y{suffix}"
        target.write_bytes(OLD)
        found = run(*arguments, target)
        assert (found.returncode, found.stdout) == (1, "")
        assert found.stderr.endswith("No space left on device\n")
        assert found.stderr.count("\n") == 1
        check_untouched(folder, f"y{suffix}")


def test_a_disk_that_may_not_be_written(tmp_path):
    model = written(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros((2, 2), np.float32))
    with small_disk(65536) as folder:
        (folder / "y.npy").write_bytes(OLD)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        found = run(
            "run", model, "--backend", "numpy", "--input", tmp_path / "x.npy",
            "--output", folder / "y.npy",
        )  # fmt: skip
        assert (found.returncode, found.stdout) == (1, "")
        assert found.stderr == "deepchip: y.npy: Read-only file system\n"
        check_untouched(folder, "y.npy")


def test_reading_takes_no_room():
    """A model is read from a disk that is full to the last byte."""
    data = model_bytes(large())
    with small_disk(-(-len(data) // 4096) * 4096) as folder:
        (folder / "net.dchip").write_bytes(data)
        with pytest.raises(OSError, match="No space left"):
            (folder / "more").write_bytes(bytes(8192))
        assert read_model(folder / "net.dchip").name == "large"


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_only_files_are_replaced(kind, tmp_path):
    """As root, `--output /dev/null` would take the device away from everybody."""
    target = tmp_path / "target"
    if kind == "folder":
        target.mkdir()
    elif kind == "pipe":
        os.mkfifo(target)
    elif os.geteuid() == 0:
        os.mknod(target, 0o600 | 0o020000, os.makedev(1, 3))  # what /dev/null is
    else:
        pytest.skip("root alone may make devices")
    before = target.stat()
    text = "Is a directory" if kind == "folder" else "not a regular file"
    with pytest.raises(OSError, match=text), replacing(target) as file:
        file.write(b"new")
    assert (target.stat().st_ino, target.stat().st_mode) == (before.st_ino, before.st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize("name", ["", ".", "..", "/", "missing/net.dchip", "x" * 300])
def test_targets_that_cannot_be(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=r".+"):
        write_text(name, "text")
    assert list(tmp_path.iterdir()) == []
