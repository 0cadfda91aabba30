"""Folders of images: which rows they give, what a broken one does, and what the largest take."""

from __future__ import annotations

import csv
import io
import os
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

import deepchip
from deepchip.converter.samples import load_samples
from deepchip.formats.errors import InputError, UnsupportedError
from deepchip.runtime.images import FREE_BYTES, Pixels, image_names
from deepchip.runtime.model import Model
from tests.checks import data_folder, patient

from .networks import relu, two_sides

F32 = np.float32


def colour(path, *channels):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB" if len(channels) == 3 else "L", (5, 4), channels).save(path)


@pytest.fixture
def folder(tmp_path):
    """Four images of one colour, their names not in the order of creation; one is in a folder."""
    folder = tmp_path / "photos"
    colour(folder / "b.png", 255, 0, 51)
    colour(folder / "a.BMP", 0, 102, 0)
    colour(folder / "more" / "c.webp", 51)
    colour(folder / "é, \n.png", 0, 0, 255)
    (folder / "notes.txt").write_text("no image")
    (folder / "._b.png").write_text("what macOS leaves behind")
    return folder


ORDER = ["a.BMP", "b.png", "more/c.webp", "é, \n.png"]
COLOURS = F32([[0, 0.4, 0], [1, 0, 0.2], [0.2, 0.2, 0.2], [0, 0, 1]])


def test_rows_come_in_the_order_of_names(tmp_path, folder):
    model = Model(relu(3, 2, 2), backend="numpy")
    found = deepchip.score(model, folder, tmp_path / "y.npy")
    assert (found.count, found.skipped) == (4, ())
    rows = np.load(tmp_path / "y.npy")
    assert rows.shape == (4, 3, 2, 2)
    np.testing.assert_allclose(rows.mean(axis=(2, 3)), COLOURS, atol=0.01)
    deepchip.score(model, folder, tmp_path / "y.npz", batch=1)
    with np.load(tmp_path / "y.npz") as found:
        assert found["files"].tolist() == ORDER
        np.testing.assert_array_equal(found["y"], rows)


def test_the_same_inputs_as_those_of_the_converter(tmp_path, folder):
    model = Model(relu(2, 2, 3), backend="numpy")
    numbers = {"mean": (-1, 5, 0), "scale": (10, 20, 255)}
    deepchip.score(model, folder, tmp_path / "y.npy", **numbers)
    expected = load_samples(folder, (2, 2, 3), **numbers)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.maximum(expected, 0))


def test_a_table_names_the_files(tmp_path, folder):
    """The brightest channel: green, red, all alike, blue."""
    deepchip.score(Model(relu(3, 1, 1), backend="numpy"), folder, tmp_path / "y.csv")
    with open(tmp_path / "y.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ORDER
    assert [row["class"] for row in rows] == ["1", "0", "0", "2"]
    assert [float(row["score"]) for row in rows] == pytest.approx([0.4, 1, 0.2, 1], abs=0.01)


def test_names_that_are_no_text(tmp_path):
    name = os.fsdecode(b"\xff.png")
    colour(tmp_path / "photos" / name, 1)
    model = Model(relu(1, 1, 1), backend="numpy")
    deepchip.score(model, tmp_path / "photos", tmp_path / "y.csv")
    assert b"\n\xff.png,1,0," in (tmp_path / "y.csv").read_bytes()
    deepchip.score(model, tmp_path / "photos", tmp_path / "y.npz")
    assert np.load(tmp_path / "y.npz")["files"].tolist() == [name]


def test_broken_images(tmp_path, folder):
    whole = (folder / "b.png").read_bytes()
    (folder / "bad.png").write_bytes(whole[:40])
    (folder / "empty.jpg").touch()
    model = Model(relu(3, 2, 2), backend="numpy")
    (tmp_path / "y.npz").write_text("older")
    with pytest.raises(InputError, match=r"photos: bad\.png: no image"):
        deepchip.score(model, folder, tmp_path / "y.npz")
    assert (tmp_path / "y.npz").read_text() == "older"
    for batch in (1, 3, 6):
        found = deepchip.score(model, folder, tmp_path / "y.npz", skip_broken=True, batch=batch)
        assert found.count == 4
        assert [name for name, _ in found.skipped] == ["bad.png", "empty.jpg"]
        with np.load(tmp_path / "y.npz") as rows:
            assert rows["files"].tolist() == ORDER
            np.testing.assert_allclose(rows["y"].mean(axis=(2, 3)), COLOURS, atol=0.01)
    with pytest.raises(InputError, match="which images were skipped"):
        deepchip.score(model, folder, tmp_path / "y.npy", skip_broken=True)
    for name in ORDER:
        (folder / name).unlink()
    with pytest.raises(InputError, match=r"all 2 images are broken; the first, bad\.png: no"):
        deepchip.score(model, folder, tmp_path / "y.npz", skip_broken=True)


def test_a_file_that_cannot_be_read_is_never_skipped(tmp_path, folder, monkeypatch):
    """A disk that fails must not look like a million broken images."""

    def fail(self, folder, name):
        raise OSError(5, "Input/output error", name)

    monkeypatch.setattr(Pixels, "read", fail)
    with pytest.raises(OSError, match="Input/output"):
        deepchip.score(
            Model(relu(3, 2, 2), backend="numpy"), folder, tmp_path / "y.npz", skip_broken=True
        )
    assert not (tmp_path / "y.npz").exists()


@pytest.mark.parametrize(
    ("graph", "options", "text"),
    [
        (relu(4), {}, "inputs of shape"),
        (two_sides(), {}, "expected one input"),
        (relu(3, 2, 2), {"mean": (1, 2)}, "1 or 3 numbers"),
        (relu(3, 2, 2), {"scale": (0,)}, "no scale of 0"),
        (relu(3, 2, 2), {"scale": (float("nan"),)}, "1 or 3 numbers"),
    ],
)
def test_networks_and_numbers_that_do_not_fit(tmp_path, folder, graph, options, text):
    with pytest.raises(InputError, match=text):
        deepchip.score(Model(graph, backend="numpy"), folder, tmp_path / "y.npz", **options)


def test_no_thread_is_left(tmp_path, folder, monkeypatch):
    """Also while the error of an interrupted run is still looked at."""
    monkeypatch.setattr("deepchip.runtime.plan.SLICE_BYTES", 1)  # a batch for each image
    before = threading.active_count()

    def progress(done, count):
        raise KeyboardInterrupt

    model = Model(relu(3, 2, 2), backend="numpy", threads=3)
    with pytest.raises(KeyboardInterrupt) as caught:
        deepchip.score(model, folder, tmp_path / "y.npz", batch=1, progress=progress)
    assert threading.active_count() == before, caught
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_without_pillow(tmp_path, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UnsupportedError, match="pip install"):
        deepchip.score(Model(relu(3, 2, 2), backend="numpy"), folder, tmp_path / "y.npz")


def test_links_and_pipes(tmp_path, folder):
    """A pipe would be waited for without end, a link to the folder itself followed without end."""
    os.mkfifo(folder / "pipe.png")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.png").symlink_to(tmp_path / "nothing")
    (folder / "b2.png").symlink_to(folder / "b.png")
    assert image_names(folder) == sorted([*ORDER, "b2.png"])


# What takes most: tests/attacks has the images that are refused.


def blank(form, pixel_bytes):
    """As many pixels with transparency as are decoded whatever the size of the file."""
    size = int((FREE_BYTES // pixel_bytes) ** 0.5)
    buffer = io.BytesIO()
    Image.new("RGBA", (size, size)).save(buffer, form, lossless=True)
    return buffer.getvalue()


def declared_only():
    """A WebP file of 34 bytes that says 16,000 x 11,000."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 11)).save(buffer, "WEBP", lossless=True)
    data = bytearray(buffer.getvalue())
    size = struct.pack("<I", (16_000 - 1) | (11_000 - 1) << 14)
    start = data.index(b"VP8L") + 9  # behind the tag, its size and the signature byte
    data[start : start + 4] = bytes([*size[:3], data[start + 3] & 0xF0 | size[3] & 0x0F])
    return bytes(data)


CHILD = """
import sys, time
from pathlib import Path
from deepchip.formats.errors import InputError
from deepchip.runtime.images import Pixels
from deepchip.runtime.memory import peak_resident
folder, good, bad = sys.argv[1:]
pixels = Pixels((3, 32, 32))
pixels.read(Path(folder), good)
before, start = peak_resident(), time.perf_counter()
try:
    pixels.read(Path(folder), bad)
    text = "decoded"
except InputError as error:
    text = str(error)
print(time.perf_counter() - start, peak_resident() - before, text)
"""


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: blank("PNG", 8), "decoded"),
        (lambda: blank("WEBP", 16), "decoded"),
        (declared_only, "bad.png: 16000 x 11000 pixels"),
    ],
)
def test_time_and_memory(tmp_path, make, text):
    colour(tmp_path / "good.png", 1, 2, 3)
    (tmp_path / "bad.png").write_bytes(make())
    command = [sys.executable, "-W", "ignore", "-c", CHILD, tmp_path, "good.png", "bad.png"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=patient(60))
    assert found.returncode == 0, found.stderr
    seconds, grown, said = found.stdout.split(maxsplit=2)
    assert said.startswith(text)
    assert said.count("\n") == 1
    assert float(seconds) < 2
    assert int(grown) < (tmp_path / "bad.png").stat().st_size + 64 * 2**20


def test_photos_as_another_runtime_sees_them(tmp_path):
    """A published network on Tiny ImageNet photos: the logits that another runtime gives."""
    data = data_folder("ttq_squeezenet")
    with np.load(data / "images.npz") as found:
        pictures = found["images_u8"][:40]
        logits = found["logits_ternary"][:40]
    deepchip.convert(data / "ttq_squeezenet.onnx", tmp_path / "net.dchip")
    (tmp_path / "photos").mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{index:02}.png")
    deepchip.score(
        deepchip.load(tmp_path / "net.dchip"),
        tmp_path / "photos",
        tmp_path / "y.npy",
        mean=(123.675, 116.28, 103.53),
        scale=(58.395, 57.12, 57.375),
    )
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), logits, atol=1e-3)
