"""Files of weights in the format safetensors that want to fill, hang or deceive."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from deepchip.converter.readers.tensors import read_tensors
from deepchip.formats.errors import InvalidModelError, UnsupportedError

from .child import Outcome
from .harness import attack, check_bounds, check_refused


def read(path: str) -> list[tuple[str, list[float]]]:
    """Read the tensors of a file."""
    return sorted((name, array.ravel().tolist()) for name, array in read_tensors(path).items())


def attacked(folder: Path, data: bytes | bytearray) -> Outcome:
    path = folder / "net.safetensors"
    path.write_bytes(data)
    return attack("tests.attacks.test_safetensors_files:read", str(path))


def file(header: object, data: bytes = bytes(12), size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(shape: Any = (3,), start: int = 0, end: int = 12, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


NONE = "no safetensors file: "
ATTACKS: dict[str, tuple[bytes, str]] = {
    "no header": (file({}, size=0), NONE),
    "a header of all bytes": (file({"x": tensor()}, size=2**64 - 1), "declares a header of"),
    "a header of 4 GB": (file({"x": tensor()}, size=2**32), "declares a header of 4294967296"),
    "a header beyond the file": (file({"x": tensor()}, size=2**20), NONE),
    "half a header": (file({"x": tensor()}, size=20), NONE),
    "lists in lists": (file(b"[" * 100_000), NONE),
    "objects in objects": (file(b'{"a":' * 100_000), NONE),
    "no object": (file([1, 2, 3]), NONE),
    "no text": (file(b'{"\xff": 1}'), NONE),
    "a terabyte": (file({"x": tensor([2**38], 0, 2**40)}), NONE),
    "more than 64 bits": (file({"x": tensor([2**63, 2**63])}), NONE),
    "sizes below zero": (file({"x": tensor([-3])}), NONE),
    "too few": (file({"x": tensor([2])}), NONE),
    "too many": (file({"x": tensor([4])}), NONE),
    "backwards": (file({"x": tensor(start=12, end=0)}), NONE),
    "overlapping": (file({"x": tensor(), "y": tensor()}), NONE),
    "a hole": (file({"x": tensor([1], 0, 4), "y": tensor([1], 8, 12)}), NONE),
    "bytes left": (file({"x": tensor([2], 0, 8)}), NONE),
    "an unknown dtype": (file({"x": tensor(dtype="F128")}), NONE),
    "a name twice": (
        file(b'{"x": %s, "x": %s}' % ((json.dumps(tensor()).encode(),) * 2)),
        "names stand twice in its header: 'x', 'x'",
    ),
    "many tensors": (
        file({f"x{i}": tensor([0], 0, 0) for i in range(60_000)}, b""),
        "declares a header of",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(tmp_path: Path, name: str) -> None:
    data, text = ATTACKS[name]
    check_refused(attacked(tmp_path, data), InvalidModelError, f"net.safetensors: {text}")


def test_names_of_tensors_may_be_anything(tmp_path: Path) -> None:
    """They are looked up, and shown in errors with what a terminal would obey written out."""
    outcome = attacked(tmp_path, file({"\x1b[2J\n": tensor()}))
    check_bounds(outcome, 0)
    assert outcome.value == [("\x1b[2J\n", [0.0] * 3)]
    refused = attacked(tmp_path, file({"\x1b[2J\n": tensor([12], dtype="F8_E5M2")}))
    check_refused(refused, UnsupportedError, r"'\x1b[2J\n' is F8_E5M2")


@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.slow, id="every bit")])
def test_damage(tmp_path: Path, step: int) -> None:
    data = save({"x": np.arange(3, dtype=np.float32), "y": np.zeros(2)})
    for bit in range(0, 8 * len(data), step):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        outcome = attacked(tmp_path, damaged)
        check_bounds(outcome, 0)
    for size in range(0, len(data), step):
        check_refused(attacked(tmp_path, data[:size]), InvalidModelError, NONE)
