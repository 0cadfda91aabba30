"""`deepchip run` on what is large: tables, folders, interruption, and a bar on a terminal only."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
from PIL import Image

from deepchip.cli import main
from deepchip.formats.model_file import write_model
from tests.checks import patient

from .networks import classifier, relu

F32 = np.float32


@pytest.fixture
def model(tmp_path):
    write_model(relu(3, 2, 2), tmp_path / "net.dchip")
    return str(tmp_path / "net.dchip")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in (("b.png", (255, 0, 0)), ("a.png", (0, 51, 102))):
        Image.new("RGB", (9, 9), colour).save(folder / name)
    (folder / "broken.jpg").write_text("no image")
    return str(folder)


def run(capsys, *arguments):
    try:
        status = main(["run", *arguments, "--backend", "numpy"])
    except SystemExit as left:
        status = left.code
    return status, *capsys.readouterr()


def test_a_folder(capsys, tmp_path, model, photos):
    target = str(tmp_path / "y.csv")
    arguments = (model, "--input", photos, "--output", target)
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    assert err == ("deepchip: photos: broken.jpg: no image of PNG, JPEG, BMP, WEBP, or damaged\n")
    assert not os.path.exists(target)
    status, out, err = run(capsys, *arguments, "--skip-broken", "--top", "2")
    assert status == 0
    assert err == "skipped broken.jpg: no image of PNG, JPEG, BMP, WEBP, or damaged\n"
    assert out == f"y: 2 of 12 classes of each of 2 items in {target}\n"
    with open(target) as file:
        assert file.read().splitlines() == [
            "file,rank,class,score",
            *("a.png,1,8,0.4", "a.png,2,9,0.4"),  # the values of a channel are 4 classes here
            *("b.png,1,0,1.0", "b.png,2,1,1.0"),
        ]


def test_pixels_are_normalized_as_told(capsys, tmp_path, model, photos):
    """Pixels 0, 51, 102 by the means 0, 1, 2 and the scale 50."""
    os.unlink(os.path.join(photos, "broken.jpg"))
    numbers = ("--mean-values", "0,1,2", "--scale-values", "50", "--batch", "1")
    arguments = ("--input", photos, "--output", str(tmp_path / "y.npy"), *numbers)
    assert run(capsys, model, *arguments)[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy")[0, :, 0, 0], [0, 1, 2])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(("--top", "0"), "'0' is no number"), (("--batch", "x"), "'x' is no number")],
)
def test_bad_use(capsys, model, arguments, text):
    status, out, err = run(capsys, model, "--input", "x.npy", "--output", "y.npy", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert text in err


def test_without_tqdm(capsys, monkeypatch, tmp_path, model):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    np.save(tmp_path / "x.npy", np.ones((2, 3, 2, 2), F32))
    arguments = ("--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy"))
    assert run(capsys, model, *arguments)[0] == 0


@pytest.fixture
def large(tmp_path):
    """A network of 1 GB of inputs, all zero, which takes some seconds at least."""
    write_model(classifier((3, 256, 256)), tmp_path / "large.dchip")
    with open(tmp_path / "x.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (6000, 3, 256, 256)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 6000 * 3 * 256 * 256 * 4)
    return ["run", tmp_path / "large.dchip", "--input", tmp_path / "x.npy", "--backend", "numpy",
            "--output", tmp_path / "y.npy"]  # fmt: skip


def start(arguments, **streams):
    return subprocess.Popen([sys.executable, "-m", "deepchip", *arguments], **streams)


def await_work(folder, names):
    """Wait until a file beside the target shows that the work has begun."""
    end = time.monotonic() + 60
    while len(list(folder.iterdir())) == names:
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(0.5)


def test_interrupted(tmp_path, large):
    """Control-C: one line, status 130, what was there before stays, and nothing else."""
    (tmp_path / "y.npy").write_text("older")
    names = sorted(path.name for path in tmp_path.iterdir())
    process = start(large, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        await_work(tmp_path, len(names))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=patient(60))
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, "", "deepchip: interrupted\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "y.npy").read_text() == "older"


def test_a_bar_on_a_terminal(tmp_path, large):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    process = start(large, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        end = time.monotonic() + 60
        while b"/6000" not in shown and time.monotonic() < end:
            shown += os.read(ours, 1000)
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        process.kill()
        os.close(ours)
    assert b"items" in shown
