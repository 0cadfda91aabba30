"""Array files that want to run code, fill, hang or deceive: .npy and .npz of inputs and weights."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepchip.converter.readers.tensors import read_tensors
from deepchip.formats.errors import InputError, InvalidModelError
from deepchip.runtime.arrays import load_arrays

from .child import Outcome
from .harness import attack, check_bounds, check_refused

Array = np.ndarray[Any, Any]


def loaded(path: str) -> list[tuple[str, str, tuple[int, ...], float]]:
    """Load arrays; give the name, dtype, shape and sum of each."""
    arrays = load_arrays(path).items()
    return [(name, a.dtype.str, a.shape, float(a.sum())) for name, a in arrays]


def weights(path: str) -> list[str]:
    """Load the weights of a network; give their names."""
    return list(read_tensors(path))


def attacked(path: Path, target: str = "loaded") -> Outcome:
    return attack(f"tests.attacks.test_arrays:{target}", str(path), HARMLESS)


HARMLESS = str(Path(__file__).parents[2] / "src" / "deepchip" / "data" / "digits.npz")
"""With it everything is imported that the others need."""


def npy(array: Array, pickles: bool = False) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=pickles)
    return file.getvalue()


def headed(header: str, data: bytes = bytes(12), version: tuple[int, int] = (1, 0)) -> bytes:
    """A .npy file whose header says anything."""
    text = header.encode() + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def fields(descr: str = "'<f4'", order: str = "False", shape: str = "(3,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


class Explosive:
    """Leaves a file where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("exploded",)


HEADERS: dict[str, tuple[bytes, str]] = {
    "objects": (npy(np.array([Explosive()], object), True), "it holds object, expected numbers"),
    "a terabyte": (headed(fields(shape="(274877906944,)")), "declares float32 (274877906944,) and"),
    "more than 64 bits": (headed(fields(shape=f"({2**62}, {2**62})")), "declares float32 ("),
    "sizes below zero": (
        headed(fields(shape="(-1, -3)")),
        "declares float32 (-1, -3) and holds 12",
    ),
    "a size that is true": (headed(fields(shape="(3.0,)")), "a header that cannot be read"),
    "too few": (headed(fields(shape="(4,)")), "declares float32 (4,) and holds 12 bytes"),
    "too many": (headed(fields(shape="(2,)")), "declares float32 (2,) and holds 12 bytes"),
    "nothing each": (headed(fields("'V0'", shape=f"({2**60},)"), b""), "it holds |V0, expected"),
    "a record of objects": (headed(fields("[('a', '<f4'), ('b', '|O')]")), "expected numbers"),
    "arrays in arrays": (headed(fields("('<f4', (3,))", shape="(1,)")), "expected numbers"),
    "long text": (headed(fields("'<U999999999'", shape="(1,)")), "a header that cannot be read"),
    "no dtype": (headed(fields("'None'")), "a header that cannot be read"),
    "code": (headed("__import__('os').mkdir('exploded')"), "a header that cannot be read"),
    "code in a field": (headed(fields("__import__('os').mkdir('x')")), "cannot be read"),
    "a power": (headed(fields(shape="(9**9**9,)")), "a header that cannot be read"),
    "brackets": (headed("(" * 9000), "a header that cannot be read"),
    "signs": (headed(fields(shape="(" + "-" * 9000 + "3,)")), "a header that cannot be read"),
    "digits": (headed(fields(shape=f"({'9' * 9000},)")), "no array file"),
    "a long header": (headed(fields() + " " * 60_000), "a header that cannot be read"),
    "a header of 4 GB": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(9), "cannot be read"),
    "a version to come": (headed(fields(), version=(9, 0)), "a header that cannot be read"),
    "a header that is cut": (headed(fields())[:30], "a header that cannot be read"),
    "nothing": (b"\x93NUMPY", "a header that cannot be read"),
    "control characters": (headed("{'\x1b[2J\n': 1}"), "a header that cannot be read"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers(tmp_path: Path, name: str) -> None:
    data, text = HEADERS[name]
    path = tmp_path / "inputs.npy"
    path.write_bytes(data)
    check_refused(attacked(path), InputError, text)
    archive = archived(tmp_path, {"x.npy": data})
    check_refused(attacked(archive), InputError, text)
    check_refused(attacked(archive, "weights"), InvalidModelError, text)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("descr", ["'>f4'", "'<f8'", "'>i2'", "'|u1'", "'|b1'", "'<f2'"])
@pytest.mark.parametrize("order", ["True", "False"])
def test_what_is_rare_but_right_is_read(tmp_path: Path, descr: str, order: str) -> None:
    dtype = np.dtype(descr.strip("'"))
    array = np.array([[1, 0, 1], [0, 1, 1]], dtype)
    data = array.tobytes("F" if order == "True" else "C")
    path = tmp_path / "inputs.npy"
    path.write_bytes(headed(fields(descr, order, "(2, 3)"), data))
    for found in (load_arrays(path)[""], np.load(path)):
        np.testing.assert_array_equal(found, array)
        assert found.dtype == dtype and found.flags.writeable


def archived(folder: Path, members: dict[str, bytes], compression: int = 0) -> Path:
    path = folder / "inputs.npz"
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def bomb(folder: Path) -> Path:
    zeros = npy(np.zeros(2**26, np.float32))
    return archived(folder, {"x.npy": zeros}, zipfile.ZIP_DEFLATED)


def overlapping(folder: Path) -> Path:
    """Ten members that are one: 2**24 bytes each."""
    path = archived(folder, {"0.npy": npy(np.zeros(2**22, np.float32))}, zipfile.ZIP_DEFLATED)
    data = path.read_bytes()
    at, end = data.rindex(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    entry = data[at:end]
    many = b"".join(entry.replace(b"0.npy", f"{i}.npy".encode()) for i in range(10))
    tail = bytearray(data[end:])
    struct.pack_into("<HHII", tail, 8, 10, 10, len(many), at)
    path.write_bytes(data[:at] + many + bytes(tail))
    return path


def window(folder: Path) -> Path:
    return archived(folder, {"x.npy": npy(np.zeros(3))}, zipfile.ZIP_LZMA)


def many(folder: Path) -> Path:
    return archived(folder, {f"{i}.npy": b"" for i in range(50_000)})


def twice(folder: Path) -> Path:
    return archived(folder, {"x.npy": npy(np.zeros(3)), "x": npy(np.ones(3))})


def encrypted(folder: Path) -> Path:
    path = archived(folder, {"x.npy": npy(np.zeros(3))})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


def wrong(folder: Path) -> Path:
    path = archived(folder, {"x.npy": npy(np.zeros(3))})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") - 1] ^= 1
    path.write_bytes(data)
    return path


def no_zip(folder: Path) -> Path:
    path = folder / "inputs.npz"
    path.write_bytes(b"PK\x05\x06" + b"\xff" * 18)
    return path


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (bomb, "it unpacks to 268435584 bytes, expected 67108864 at most"),
        (overlapping, "it unpacks to 167773440 bytes, expected 67108864 at most"),
        (window, "compressed as numpy does not do it"),
        (many, "a list of members of"),
        (twice, "a second array of this name"),
        (encrypted, "is encrypted"),
        (wrong, "Bad CRC-32 for file 'x.npy'"),
        (no_zip, "no array file (.npy or .npz): "),
    ],
)
def test_archives(tmp_path: Path, make: Callable[[Path], Path], text: str) -> None:
    path = make(tmp_path)
    check_refused(attacked(path), InputError, text)
    check_refused(attacked(path, "weights"), InvalidModelError, text)


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    path = archived(tmp_path, {"../../evil.npy": npy(np.ones(3))})
    outcome = attacked(path)
    check_bounds(outcome, 0)
    assert outcome.value == [("../../evil", "<f8", (3,), 3.0)]


def test_zeros_may_be_compressed_a_lot(tmp_path: Path) -> None:
    """Masks and labels are; it is what an archive unpacks to that counts."""
    path = archived(tmp_path, {"x.npy": npy(np.zeros(2**22, np.float32))}, zipfile.ZIP_DEFLATED)
    outcome = attacked(path)
    check_bounds(outcome, 0)
    assert outcome.value == [("x", "<f4", (2**22,), 0.0)]


def test_pipes_are_no_files(tmp_path: Path) -> None:
    for name in ("pipe.npy", "pipe.npz"):
        os.mkfifo(tmp_path / name)
        check_refused(attacked(tmp_path / name), InputError, "no regular file")
    check_refused(attacked(tmp_path / "pipe.npz", "weights"), InputError, "no regular file")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.slow, id="every bit")])
def test_flipped_bits(tmp_path: Path, suffix: str, step: int) -> None:
    data = npy(np.arange(3, dtype=np.float32))
    path = tmp_path / f"inputs{suffix}"
    if suffix == ".npz":
        data = archived(tmp_path, {"x.npy": data}).read_bytes()
    for bit in range(0, 8 * len(data), step):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        outcome = attacked(path)
        check_bounds(outcome, 0)
        assert outcome.text.isprintable(), outcome
    for size in range(0, len(data), step):
        path.write_bytes(data[:size])
        check_refused(attacked(path), InputError, f"{path.name}: no array file")
