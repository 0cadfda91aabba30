"""The examples, run as their heads say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from deepchip.converter.builder import Builder
from deepchip.formats.model_file import write_model
from tests.checks import patient

EXAMPLES = Path(__file__).parents[1] / "examples"

PICAMERA2 = """
import numpy

class Picamera2:
    '''Two frames, blue and then red, of the size and in the order that were asked for.'''

    def __enter__(self):
        self.frames = [(0, 0, 255), (255, 0, 0)]
        return self

    def __exit__(self, *error):
        pass

    def create_video_configuration(self, main):
        return main

    def configure(self, main):
        assert main["format"] == "BGR888"  # red first
        self.size = main["size"]

    def start(self):
        pass

    def capture_array(self):
        if not self.frames:
            raise KeyboardInterrupt
        width, height = self.size
        return numpy.full((height, width, 3), self.frames.pop(0), numpy.uint8)
"""


@pytest.fixture
def folder(tmp_path):
    """A network whose scores are the mean red, green and blue, its labels, and two images."""
    builder = Builder("colour")
    x = builder.input("image", (3, 4, 6))
    window = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0)}
    pool = {**window, "kernel": (4, 6), "ceil_mode": 0, "count_include_pad": 0}
    y = builder.add("AveragePool", [x], "mean", pool)
    y = builder.add("Reshape", [y], "scores", {"shape": (3,)})
    write_model(builder.finish([y]), tmp_path / "net.dchip")
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    (tmp_path / "photos").mkdir()
    for name, colour in (("1.png", (10, 200, 0)), ("2.PNG", (0, 0, 51))):
        Image.new("RGB", (50, 40), colour).save(tmp_path / "photos" / name)
    return tmp_path


def run(folder, *options):
    command = [sys.executable, str(EXAMPLES / "camera.py"), "net.dchip", "--labels", "labels.txt"]
    path = os.pathsep.join([str(folder), *sys.path])
    return subprocess.run(
        [*command, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=patient(120),
    )


def lines(found):
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    return [line.split()[:2] for line in found.stdout.splitlines()]


def test_camera_on_a_folder(folder):
    assert lines(run(folder, "--folder", "photos")) == [["green", "0.784"], ["blue", "0.200"]]


def test_camera_with_means_and_scales(folder):
    found = run(folder, "--folder", "photos", "--mean-values", "0,0,50", "--scale-values", "1,2,1")
    assert lines(found) == [["green", "100.000"], ["blue", "1.000"]]


def test_camera(folder):
    (folder / "picamera2.py").write_text(PICAMERA2)
    assert lines(run(folder)) == [["blue", "1.000"], ["red", "1.000"]]


def test_no_camera(folder):
    found = run(folder)
    assert found.returncode == 1
    assert found.stderr == (
        "no picamera2 here: sudo apt install python3-picamera2, or use --folder\n"
    )
