"""Say what the camera sees: frames of a Raspberry Pi camera, or the images of a folder.

    python examples/camera.py net.dchip --labels labels.txt
    python examples/camera.py net.dchip --folder photos

The camera needs picamera2 (`sudo apt install python3-picamera2`, and an environment made with
`python3 -m venv --system-site-packages`), a folder needs Pillow. The camera scales frames to the
size of the network's input in hardware; what is left to do here is (pixel - mean) / scale.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import deepchip

Frame = NDArray[np.uint8]
"""Pixels [H, W, 3], red first."""

SMOOTHED = 0.9
"""How much of the mean time a frame the frames before this one are."""


def camera(width: int, height: int) -> Iterator[Frame]:
    """Yield frames for ever."""
    try:
        from picamera2 import Picamera2
    except ImportError:
        sys.exit("no picamera2 here: sudo apt install python3-picamera2, or use --folder")

    with Picamera2() as device:
        # libcamera names formats from the highest byte down: BGR888 has red first in memory.
        main = {"size": (width, height), "format": "BGR888"}
        device.configure(device.create_video_configuration(main))
        device.start()
        while True:
            yield device.capture_array()


def images(folder: Path, width: int, height: int) -> Iterator[Frame]:
    """Yield every image of a folder once."""
    from PIL import Image

    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            with Image.open(path) as picture:
                yield np.asarray(picture.convert("RGB").resize((width, height)))


def numbers(text: str) -> NDArray[np.float32]:
    """Return one number, or one a channel."""
    return np.array(text.split(","), np.float32)


def main() -> None:
    """Print a line for each frame: the best class, its score, milliseconds, frames a second."""
    parser = argparse.ArgumentParser(description="Classify what a camera, or a folder, shows.")
    parser.add_argument("model")
    parser.add_argument("--folder", type=Path, help="of images, instead of the camera")
    parser.add_argument("--labels", type=Path, help="text file, a class a line")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mean-values", type=numbers, default=numbers("0"))
    parser.add_argument("--scale-values", type=numbers, default=numbers("255"))
    options = parser.parse_args()

    labels = options.labels.read_text().splitlines() if options.labels else None
    with deepchip.load(options.model, threads=options.threads) as model:
        shape = model.inputs[0].shape
        if len(shape) != 4 or shape[1] != 3:
            parser.error(f"{options.model} reads {shape}, expected (N, 3, height, width)")
        height, width = shape[2:]
        frames = images(options.folder, width, height) if options.folder else camera(width, height)
        mean = None
        begin = time.perf_counter()
        for frame in frames:
            pixels = (frame.astype(np.float32) - options.mean_values) / options.scale_values
            before = time.perf_counter()
            scores = model(pixels.transpose(2, 0, 1)[None])[0]
            now = time.perf_counter()
            best = int(scores.argmax())
            name = labels[best] if labels else f"class {best}"
            took = now - begin
            mean = took if mean is None else SMOOTHED * mean + (1 - SMOOTHED) * took
            milliseconds = 1000 * (now - before)
            line = f"{name:30} {scores[best]:8.3f} {milliseconds:8.1f} ms {1 / mean:6.1f} FPS"
            print(line, flush=True)
            begin = now


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
