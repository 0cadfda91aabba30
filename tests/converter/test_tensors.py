"""State dicts from files: what comes back, and files that are damaged or ask for too much."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from deepchip.converter.readers import tensors
from deepchip.converter.readers.tensors import read_tensors
from deepchip.formats.errors import DeepChipError, InputError, InvalidModelError, UnsupportedError

NUMBERS = st.sampled_from(["f2", "f4", "f8", "i8", "u1"])
ARRAYS = st.dictionaries(
    st.text("abc.", min_size=1, max_size=4),
    hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=0, max_dims=4, max_side=3)),
    max_size=3,
)


def check_same(found, expected) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@given(ARRAYS)
def test_what_safetensors_writes_is_read(tmp_path_factory, arrays) -> None:
    path = tmp_path_factory.mktemp("tensors") / "net.safetensors"
    save_file(arrays, path)
    check_same(read_tensors(path), arrays)


@given(ARRAYS, st.booleans())
def test_what_numpy_writes_is_read(tmp_path_factory, arrays, compress) -> None:
    path = tmp_path_factory.mktemp("tensors") / "net.npz"
    arrays = {name: np.asfortranarray(array) for name, array in arrays.items()}
    (np.savez_compressed if compress else np.savez)(path, **arrays)
    check_same(read_tensors(path), arrays)


def safetensors_file(path: Path, header: object, data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_bfloat16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    """1.0 is 0x3F80, -2.5 is 0xC020."""
    header = {"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    path = safetensors_file(tmp_path / "net.safetensors", header, bytes([0x80, 0x3F, 0x20, 0xC0]))
    np.testing.assert_array_equal(read_tensors(path)["x"], np.float32([1.0, -2.5]))
    assert read_tensors(path)["x"].dtype == np.float32


def test_other_dtypes_of_safetensors_are_not_supported(tmp_path: Path) -> None:
    header = {"x": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}
    path = safetensors_file(tmp_path / "net.safetensors", header, b"ab")
    with pytest.raises(UnsupportedError, match=r"^net.safetensors: 'x' is F8_E4M3, expected one"):
        read_tensors(path)


@pytest.mark.parametrize("shape", [[2**40], [3], [-1]])
def test_safetensors_that_declare_what_they_do_not_hold(tmp_path: Path, shape: list[int]) -> None:
    header = {"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, 8]}}
    path = safetensors_file(tmp_path / "net.safetensors", header, bytes(8))
    with pytest.raises(InvalidModelError, match=r"^net.safetensors: no safetensors file: "):
        read_tensors(path)


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def test_an_array_has_to_be_what_its_header_declares(tmp_path: Path) -> None:
    """Whatever it declares, no more is allocated than the file holds."""
    huge = npy(np.zeros(1000, np.float32)).replace(b"(1000,)", b"(9999,)")
    with pytest.raises(
        InvalidModelError,
        match=r"^net.npz: 'x.npy': no array file .* declares float32 \(9999,\) and holds 4000 byte",
    ):
        read_tensors(npz(tmp_path / "net.npz", x=huge))


def test_files_have_a_limit(tmp_path: Path, monkeypatch) -> None:
    path = npz(tmp_path / "net.npz", x=npy(np.zeros(100)))
    monkeypatch.setattr(tensors, "MAX_BYTES", 100)
    with pytest.raises(UnsupportedError, match="has more than 100 bytes"):
        read_tensors(path)


def test_a_header_of_safetensors_has_a_limit(tmp_path: Path, monkeypatch) -> None:
    save_file({"x": np.zeros(100)}, tmp_path / "net.safetensors")
    monkeypatch.setattr(tensors, "MAX_HEADER", 10)
    with pytest.raises(InvalidModelError, match=r"declares a header of .* bytes, expected 10 at"):
        read_tensors(tmp_path / "net.safetensors")


def test_a_name_may_stand_once_in_the_header_of_safetensors(tmp_path: Path) -> None:
    """The package takes the last one."""
    one = '"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    text = f"{{{one}, {one}}}".encode()
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    with pytest.raises(InvalidModelError, match="names stand twice in its header: 'x', 'x'"):
        read_tensors(path)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    array = np.array([Explosive()], dtype=object)
    with pytest.raises(InvalidModelError, match=r"'x.npy': .* it holds object, expected numbers"):
        read_tensors(npz(tmp_path / "net.npz", x=npy(array)))


def test_texts_are_no_weights(tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz", x=np.array(["one", "two"]))
    with pytest.raises(UnsupportedError, match=r"'x' is of dtype <U3, expected numbers"):
        read_tensors(tmp_path / "net.npz")


class Explosive:
    """Fails where it is unpickled."""

    def __reduce__(self):
        return exec, ("raise AssertionError('unpickled')",)


@pytest.mark.parametrize(
    ("name", "data", "error", "text"),
    [
        ("net.npz", b"none", InvalidModelError, "no array file (.npy or .npz): File is not"),
        ("net.safetensors", b"", InvalidModelError, "no safetensors file: "),
        ("net.pt", b"", UnsupportedError, "weights are read from .safetensors and .npz files only"),
        ("net.npz", None, InputError, "cannot be read: No such file or directory"),
        ("net.safetensors", None, InputError, "cannot be read: No such file or directory"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, name, data, error, text) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(error) as found:
        read_tensors(tmp_path / name)
    assert str(found.value).startswith(f"{name}: {text}")


def test_a_member_that_is_no_array(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match=r"^net.npz: 'x.npy': no array file .* header that"):
        read_tensors(npz(tmp_path / "net.npz", x=b"text"))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1))
def test_damage_raises_no_other_error(tmp_path_factory, suffix, flips) -> None:
    path = tmp_path_factory.mktemp("damage") / f"net{suffix}"
    arrays = {"a.weight": np.ones((3, 4), np.float32), "b": np.zeros(5)}
    if suffix == ".npz":
        np.savez_compressed(path, **arrays)
    else:
        save_file(arrays, path)
    data = bytearray(path.read_bytes())
    for at, byte in flips:
        data[at % len(data)] = byte
    path.write_bytes(data)
    try:
        read_tensors(path)
    except DeepChipError as error:
        assert "\n" not in str(error)
