"""Images of a folder that want to run code, fill, hang or deceive."""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepchip.converter.samples import load_samples
from deepchip.formats.errors import InputError

from .child import Outcome
from .harness import attack, check_bounds, check_refused, opened_by


def sampled(folder: str) -> list[float]:
    """Load a folder as calibration inputs; give what each image sums up to."""
    return [float(image.sum()) for image in load_samples(folder, (3, 8, 8))]


def attacked(folder: Path) -> Outcome:
    outcome = attack("tests.attacks.test_images:sampled", str(folder), _harmless(folder))
    own = f" {folder.resolve()}"
    return replace(outcome, reached=tuple(name for name in outcome.reached if own not in name))


def _harmless(folder: Path) -> str:
    """Return the one folder with which everything is imported that the others need."""
    global _warm
    if not _warm:
        for kind, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("BMP", "bmp"), ("WEBP", "webp")):
            place = folder.parent / "harmless"
            place.mkdir(exist_ok=True)
            (place / f"a.{suffix}").write_bytes(saved(kind))
        _warm = str(folder.parent / "harmless")
    return _warm


_warm = ""


def saved(kind: str, size: tuple[int, int] = (16, 16), mode: str = "RGB", **how: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind, **how)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes = b"", *more: bytes) -> bytes:
    """A PNG of grey pixels that says anything of itself (PNG specification, chunks 11.2)."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + data + chunk(b"IEND", b"")


def animated_scans() -> bytes:
    """A progressive JPEG whose last scan is there 3,000 times."""
    data = saved("JPEG", (1024, 1024), progressive=True)
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:last] + data[last:end] * 3000 + data[end:]


ENCAPSULATED = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
    b"(/tmp/exploded) (w) file closefile\nshowpage\n%%EOF\n"
)

ATTACKS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "no image of PNG, JPEG, BMP, WEBP"),
    "text": (b"hello", "no image of PNG, JPEG, BMP, WEBP"),
    "a program for Ghostscript": (ENCAPSULATED, "no image of PNG, JPEG, BMP, WEBP"),
    "another format": (saved("TIFF"), "no image of PNG, JPEG, BMP, WEBP"),
    "a gigapixel": (png(2**15, 2**15), "no image that is whole: Image size"),
    "pixels that Pillow itself refuses": (png(2**20, 2**20), "no image that is whole"),
    "pixels beyond 64 bits": (png(2**31 - 1, 2**31 - 1), "no image that is whole"),
    "a hundred million pixels of zero": (
        png(10_000, 10_000, bytes(10_000 * 10_001)),
        "10000 x 10000 pixels in a file of",
    ),
    "no pixels": (png(0, 0), "no image"),
    "few of the pixels": (png(64, 64, bytes(100)), "no image that is whole"),
    "text that expands": (
        png(8, 8, bytes(72), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26), 9))),
        "no image",
    ),
    "a chunk beyond the file": (
        png(8, 8)[:33] + struct.pack(">I", 2**31 - 1) + b"IDAT",
        "no image",
    ),
    "half a JPEG": (saved("JPEG", (64, 64))[:400], "no image"),
    "many scans": (animated_scans(), "scans of"),
    "16 bits": (saved("PNG", mode="I;16"), "pixels of mode 'I;16'"),
    "a BMP of a gigapixel": (
        b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 2**15, 2**15, 1, 24, 0, 0, 1, 1, 0, 0),
        "no image that is whole: Image size",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(tmp_path: Path, name: str) -> None:
    data, text = ATTACKS[name]
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(data)
    outcome = attacked(folder)
    check_refused(outcome, InputError, text)
    assert "a.png: " in outcome.text


def test_only_files_are_opened(tmp_path: Path) -> None:
    """Pipes never end, and folders that are links lead elsewhere."""
    folder, secret = tmp_path / "images", tmp_path / "secret"
    folder.mkdir()
    secret.mkdir()
    (secret / "b.png").write_bytes(saved("PNG"))
    (folder / "a.png").write_bytes(saved("PNG"))
    (folder / "folder.png").mkdir()
    (folder / "linked").symlink_to(secret)
    os.mkfifo(folder / "pipe.png")
    with opened_by(secret) as opened:
        outcome = attacked(folder)
        assert opened() == []
    assert outcome.kind == "result" and outcome.value == [0.0], outcome


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
@pytest.mark.parametrize("count", [20, pytest.param(2000, marks=pytest.mark.slow, id="2000 bits")])
def test_flipped_bits(tmp_path: Path, kind: str, count: int) -> None:
    data = saved(kind)
    folder = tmp_path / "images"
    folder.mkdir()
    for bit in np.random.default_rng(3).integers(0, 8 * len(data), count):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        (folder / "a.png").write_bytes(damaged)
        outcome = attacked(folder)
        check_bounds(outcome, 0)
        assert outcome.text.isprintable(), outcome
