"""Images as inputs of a network: the files of a folder, and how their pixels become numbers."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.errors import InputError, UnsupportedError, located
from deepchip.formats.graph import Shape

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
"""What is opened, whatever a file is called: Pillow also knows formats that run other programs."""
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
"""Of 8 bits a channel at most: Pillow clips, and does not scale, deeper ones."""

FREE_BYTES = 60_000_000
MAX_RATIO = 100
"""Decoding may take `FREE_BYTES`; more, if pixels are at most so many times their file, at 4 bytes
each: photographs are 3 to 50 times, and what is larger by a thousand is made to harm."""
MAX_SCANNED = 2**30
"""Pixels times scans of a progressive JPEG file, which usually has 10; 2**30 take about a second
(libjpeg-turbo 3 on a core of a server of 2023)."""


def image_names(folder: Path) -> list[str]:
    """Return the images in a folder and in the folders in it, in order, as paths relative to it.

    Hidden files, and folders that are links, are left out.

    Raises
    ------
    InputError
        There are none.
    """
    names = sorted(_names(folder, ""))
    if not names:
        raise InputError(f"{folder.name}: 0 images ({', '.join(SUFFIXES)})")
    return names


def _names(folder: Path, prefix: str) -> Iterator[str]:
    with os.scandir(folder / prefix) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _names(folder, f"{name}/")
            elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                yield name


@dataclass(frozen=True)
class Pixels:
    """How an image becomes one item of an input: resized, then (pixel - mean) / scale.

    Attributes
    ----------
    shape : of the item, [C, H, W] or [H, W, C] with C = 1, grey, or 3, RGB
    mean, scale : one number or one for each channel, for pixels from 0 to 255

    Raises
    ------
    InputError
        No image has that shape, or the numbers are too many or cannot be used.
    UnsupportedError
        Pillow is not there.
    """

    shape: Shape
    mean: Sequence[float] = (0.0,)
    scale: Sequence[float] = (255.0,)

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or not {self.shape[0], self.shape[2]} & {1, 3}:
            raise InputError(
                f"images for inputs of shape {self.shape}, expected (C, H, W) or (H, W, C) with "
                "1 or 3 channels"
            )
        channels = self._size[0]
        numbers = np.array([*self.mean, *self.scale], np.float32)
        if (
            not {len(self.mean), len(self.scale)} <= {1, channels}
            or not np.isfinite(numbers).all()
            or not numbers[len(self.mean) :].all()
        ):
            raise InputError(
                f"mean values {tuple(self.mean)} and scale values {tuple(self.scale)} of the "
                f"pixels, expected 1 or {channels} numbers each, no scale of 0"
            )
        try:
            import PIL  # noqa: F401
        except ImportError:
            raise UnsupportedError(
                "images need Pillow, which is not installed: pip install 'deepchip[images]'"
            ) from None

    @property
    def _planar(self) -> bool:
        return self.shape[0] in (1, 3)

    @property
    def _size(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        first, second, third = self.shape
        return (first, second, third) if self._planar else (third, first, second)

    def read(self, folder: Path, name: str) -> NDArray[np.float32]:
        """Return the item that an image file of a folder becomes, float32 of `shape`.

        Raises
        ------
        InputError
            It is no image, is damaged, or takes far more memory or time than its size explains.
        OSError
            It cannot be read.
        """
        data = (folder / name).read_bytes()
        with located(name):
            pixels = self._decoded(data)
        pixels -= np.array(self.mean, np.float32)
        pixels /= np.array(self.scale, np.float32)
        return pixels.transpose(2, 0, 1) if self._planar else pixels

    def _decoded(self, data: bytes) -> NDArray[np.float32]:
        from PIL import Image, UnidentifiedImageError

        channels, height, width = self._size
        mode = "L" if channels == 1 else "RGB"
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                _check(picture, mode, data)
                picture.load()
                plain = picture if picture.mode == mode else picture.convert(mode)
                resized = plain.resize((width, height), Image.Resampling.BILINEAR)
        except (InputError, MemoryError):
            raise
        except UnidentifiedImageError:
            raise InputError(f"no image of {', '.join(FORMATS)}, or damaged") from None
        except Exception as error:  # of a damaged file, whatever Pillow's decoders stumble over
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"no image that is whole: {text}") from None
        return np.array(resized, np.float32).reshape(height, width, channels)


def _check(picture: Image.Image, mode: str, data: bytes) -> None:
    """Refuse what is not decoded rightly, or bounded by the size of its file, before decoding."""
    if picture.mode not in MODES:
        raise InputError(f"pixels of mode {picture.mode!r}; expected at most 8 bits a channel")
    count = picture.width * picture.height
    if count * _pixel_bytes(picture, mode) > FREE_BYTES and 4 * count > MAX_RATIO * len(data):
        raise InputError(
            f"{picture.width} x {picture.height} pixels in a file of {len(data)} bytes; expected "
            f"at most {MAX_RATIO // 4 * len(data)} pixels"
        )
    if "progressive" in picture.info:
        scans = data.count(b"\xff\xda")  # the marker "start of scan", ITU-T T.81, table B.1
        if scans * count > MAX_SCANNED:
            raise InputError(
                f"{scans} scans of {count} pixels; expected at most {MAX_SCANNED // count} scans"
            )


def _pixel_bytes(picture: Image.Image, mode: str) -> int:
    """Return what Pillow holds of a pixel at a time: as decoded, and as `mode` if that differs."""
    held = {"1": 1, "L": 1, "P": 1}
    canvas = 8 if picture.format == "WEBP" else 0  # its decoder keeps two, for animations
    converted = 0 if picture.mode == mode else held.get(mode, 4)
    return held.get(picture.mode, 4) + canvas + converted
