"""Calibration inputs in every form, and a clear error for what is none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from deepchip.converter.samples import load_samples
from deepchip.formats.errors import InputError
from tests.converter.graphs import random


def test_arrays_and_files(tmp_path):
    array = random(0, 5, 3, 4, 4)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "one.npz", anything=array)
    np.savez(tmp_path / "named.npz", images=array, labels=np.arange(5))
    for source in (array, tmp_path / "a.npy", tmp_path / "one.npz", str(tmp_path / "named.npz")):
        np.testing.assert_array_equal(load_samples(source, (3, 4, 4)), array)


def test_a_folder_of_images(tmp_path):
    """Pixels of one colour stay that colour at any size; files come in the order of their names."""
    Image.new("RGB", (9, 7), (255, 0, 51)).save(tmp_path / "b.png")
    Image.new("L", (2, 2), 102).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("not an image")
    planar = load_samples(tmp_path, (3, 4, 5))
    assert planar.shape == (2, 3, 4, 5)
    np.testing.assert_allclose(planar[0], 0.4)
    np.testing.assert_allclose(planar[1].mean(axis=(1, 2)), [1, 0, 0.2])
    last = load_samples(tmp_path, (4, 5, 3))
    np.testing.assert_array_equal(last, planar.transpose(0, 2, 3, 1))
    assert load_samples(tmp_path, (1, 4, 4)).shape == (2, 1, 4, 4)


def test_pixels_are_normalized_as_told(tmp_path):
    """A pixel of (255, 0, 51) by the means 5, 10, 1 and the scales 50, 10, 25."""
    Image.new("RGB", (2, 2), (255, 0, 51)).save(tmp_path / "a.png")
    images = load_samples(tmp_path, (2, 2, 3), mean=(5, 10, 1), scale=(50, 10, 25))
    np.testing.assert_allclose(images[0, 0, 0], [5, -1, 2])
    assert load_samples(tmp_path, (1, 2, 2), scale=(1,)).max() > 1
    for mean, scale in (((1, 2), (1,)), ((0,), (0,)), ((0,), (1, 1, 0))):
        with pytest.raises(InputError, match="1 or 3 numbers"):
            load_samples(tmp_path, (2, 2, 3), mean, scale)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((5, 3, 4, 4), np.uint8), "uint8"),
        (np.zeros((3, 4, 4), np.float32), r"\(3, 4, 4\)"),
        (np.zeros((0, 3, 4, 4), np.float32), r"\(0, 3, 4, 4\)"),
        (np.full((1, 3, 4, 4), np.nan, np.float32), "NaN"),
        (np.full((1, 3, 4, 4), np.inf), "infinity"),
        (np.array([None]), "object"),
    ],
)
def test_bad_arrays(array, found):
    with pytest.raises(InputError, match=found):
        load_samples(array, (3, 4, 4))


def test_bad_files(tmp_path):
    (tmp_path / "text.npy").write_text("hello")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("hello")
    for name, found in (
        ("text.npy", "text.npy: no array file"),
        ("objects.npy", "objects.npy: no array file"),
        ("two.npz", r"two.npz: holds arrays \['a', 'b'\]"),
        ("empty", "empty: 0 images"),
        ("bad", "a.png: no image"),
    ):
        with pytest.raises(InputError, match=found) as caught:
            load_samples(tmp_path / name, (3, 4, 4))
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        load_samples(tmp_path / "missing.npy", (3, 4, 4))


def test_a_folder_for_inputs_that_are_no_images(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="inputs of shape"):
        load_samples(tmp_path, (10,))
