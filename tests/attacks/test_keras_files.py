"""Keras files that want to crash, fill, hang, deceive or read what is not theirs.

libhdf5, which reads them, trusts what it reads: single flipped bits make it loop and crash.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from deepchip.formats.errors import DeepChipError, InputError, InvalidModelError, UnsupportedError
from tests.converter.keras_files import KerasFile, weights_3, write_keras

from .exports import MEMORY, OVER, attacked, check_attack
from .harness import check_bounds, opened_by

KERNEL = "model_weights/dense/dense/kernel:0"
"""Of memory or of time, whichever is over first."""


def dense() -> KerasFile:
    file = KerasFile()
    file.input("x", 3)
    weights = {"kernel": np.ones((3, 2)), "bias": np.zeros(2)}
    file.add("Dense", "dense", "x", weights=weights, units=2)
    return file


def h5(folder: Path, edit: Callable[[h5py.File], None] = lambda file: None) -> Path:
    path = dense().write(folder / "net.h5", "dense")
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def archive(folder: Path, model: KerasFile, output: str) -> Path:
    return write_keras(folder / "net.keras", model.keras_3(output), weights_3({}))


def chained(class_name: str, count: int, **config: Any) -> KerasFile:
    """A model of many layers, one behind the other: "l0" to the last."""
    file = KerasFile()
    file.input("x", 3)
    for i in range(count):
        file.add(class_name, f"l{i}", f"l{i - 1}" if i else "x", **config)
    return file


# ---- Bits that are flipped


def heap_size(data: bytes, text: bytes) -> int:
    """Where the size of a text lies in the global heap: 8 bytes (HDF5 format 3.0, III.E)."""
    return data.index(text) - 8


def test_a_text_whose_size_is_wrong_does_not_hang(tmp_path: Path) -> None:
    """libhdf5 1.14 loops for ever over the heap that holds it."""
    path = h5(tmp_path)
    data = bytearray(path.read_bytes())
    data[heap_size(data, b"dense/bias:0") + 1] ^= 1
    path.write_bytes(data)
    check_attack(InvalidModelError, "", path)


def test_a_text_of_a_terabyte(tmp_path: Path) -> None:
    path = h5(tmp_path)
    data = bytearray(path.read_bytes())
    at = heap_size(data, b'{"class_name"')
    data[at : at + 8] = struct.pack("<Q", 2**40)
    path.write_bytes(data)
    check_attack(InvalidModelError, "damaged HDF5 file: ", path)


@pytest.mark.parametrize("count", [28, pytest.param(2000, marks=pytest.mark.slow, id="2000 bits")])
def test_flipped_bits(tmp_path: Path, count: int) -> None:
    path = h5(tmp_path)
    data = path.read_bytes()
    random = np.random.default_rng(7)
    # Those that made libhdf5 1.14 loop (20680) or crash (8074) where h5py 3.14 wrote the file.
    for bit in [8074, 20680, *random.integers(0, 8 * len(data), count)]:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        check_bounds(attacked(path), 0)


@pytest.mark.parametrize("size", [0, 4, 8, 96, 2000, 9000])
def test_truncated(tmp_path: Path, size: int) -> None:
    path = h5(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    check_attack(InvalidModelError, "", path)


# ---- Data that lie elsewhere


def link_outside(file: h5py.File) -> None:
    file[KERNEL] = h5py.ExternalLink("../secret.h5", "/kernel")


def store_outside(file: h5py.File) -> None:
    file.create_dataset(KERNEL, (3, 2), np.float32, external=[("../secret.h5", 0, 24)])


def map_outside(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 2), np.float32)
    layout[:] = h5py.VirtualSource("../secret.h5", "kernel", (3, 2))
    file.create_virtual_dataset(KERNEL, layout)


def link_all_outside(file: h5py.File) -> None:
    del file["model_weights"]
    file["model_weights"] = h5py.ExternalLink("../secret.h5", "/")


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (link_outside, "lies behind a link to another place"),
        (store_outside, "kernel is stored in another file"),
        (map_outside, "kernel is stored in another file"),
        (link_all_outside, "'model_weights' lies behind a link to another place"),
    ],
)
def test_other_files_are_not_opened(
    tmp_path: Path, edit: Callable[[h5py.File], None], text: str
) -> None:
    secret, folder = tmp_path / "secret.h5", tmp_path / "model"
    folder.mkdir()
    with h5py.File(secret, "w") as file:
        file["kernel"] = np.ones((3, 2), np.float32)

    def moved(file: h5py.File) -> None:
        del file[KERNEL]
        edit(file)

    path = h5(folder, moved)
    with opened_by(secret) as opened:
        check_attack(InvalidModelError, text, path)
        assert opened() == []


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = archive(folder, chained("ReLU", 1), "l0")
    with zipfile.ZipFile(path, "a") as file:
        for name in ("../evil.txt", "/evil.txt", "..\\evil.txt", "\x1b[2J\n"):
            file.writestr(name, "x")
    outcome = attacked(path)
    check_bounds(outcome, 0)
    assert outcome.kind == "result"
    assert [found.name for found in tmp_path.rglob("*")] == ["model", "net.keras"]


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.h5")
    check_attack(InputError, "is no regular file", tmp_path / "net.h5")


# ---- Small files that ask for much


def declare_a_terabyte(file: h5py.File) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (2**20, 2**18), np.float32, chunks=(64, 64))


def compress_a_gigabyte(file: h5py.File) -> None:
    del file[KERNEL]
    shape = (2**14, 2**14)
    data = file.create_dataset(
        KERNEL, shape, np.float32, chunks=(2**12, 2**12), compression="gzip", fillvalue=1.0
    )
    data[: 2**12, : 2**12] = 0


def lie_about_floats(file: h5py.File) -> None:
    """A kernel of floats with another bias of the exponent, which no dtype of NumPy has."""
    del file[KERNEL]
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    space = h5py.h5s.create_simple((3, 2))
    h5py.h5d.create(file["model_weights/dense/dense"].id, b"kernel:0", kind, space)
    file[KERNEL][...] = np.ones((3, 2))


def state_a_reference(file: h5py.File) -> None:
    del file.attrs["model_config"]
    file.attrs["model_config"] = file["model_weights"].ref


def state_nothing(file: h5py.File) -> None:
    del file.attrs["model_config"]
    file.attrs["model_config"] = h5py.Empty("S10")


def state_a_record(file: h5py.File) -> None:
    del file.attrs["model_config"]
    file.attrs["model_config"] = np.zeros(3, [("a", "i4"), ("b", "f8")])


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (declare_a_terabyte, "kernel has shape (1048576, 262144), expected (3, 2)"),
        (compress_a_gigabyte, "kernel has shape (16384, 16384), expected (3, 2)"),
        (lie_about_floats, "kernel has 48 bytes, the file does not hold them"),
        (state_a_reference, "model_config is no text"),
        (state_nothing, "damaged HDF5 file: "),
        (state_a_record, "model_config is no text"),
    ],
)
def test_contents_that_are_not_what_they_should_be(
    tmp_path: Path, edit: Callable[[h5py.File], None], text: str
) -> None:
    check_attack(InvalidModelError, text, h5(tmp_path, edit))


def bomb(folder: Path, compression: int, members: Mapping[str, bytes]) -> Path:
    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in {"metadata.json": b"{}", "config.json": b"{}", **members}.items():
            file.writestr(name, data)
    return path


def zeros(folder: Path) -> Path:
    return bomb(folder, zipfile.ZIP_DEFLATED, {"model.weights.h5": bytes(2**28)})


def dictionary(folder: Path) -> Path:
    """LZMA that asks for a window of 4 GB, stated in its header (APPNOTE 6.3.10, 5.8.8)."""
    path = bomb(folder, zipfile.ZIP_LZMA, {"model.weights.h5": b""})
    data = bytearray(path.read_bytes())
    at = data.index(b"metadata.json") + len("metadata.json") + 5
    data[at : at + 4] = struct.pack("<I", 2**32 - 1)
    path.write_bytes(data)
    return path


def brackets(folder: Path) -> Path:
    """A config of a million empty lists."""
    config = b"[" + b"[]," * 1_000_000 + b"[]]"
    return bomb(folder, zipfile.ZIP_STORED, {"config.json": config})


def members(folder: Path) -> Path:
    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w") as file:
        for i in range(60_000):
            file.writestr(f"m{i}", "")
    return path


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (zeros, "declares 268435456 bytes, expected at most"),
        (dictionary, MEMORY),
        (members, "no member 'metadata.json'"),
        (brackets, "config.json has 3000004 bytes and 1000002 lists and objects"),
    ],
)
def test_archives_that_expand(tmp_path: Path, make: Callable[[Path], Path], text: str) -> None:
    check_attack(InvalidModelError, text, make(tmp_path))


def repetitions() -> KerasFile:
    """2,000 layers, each of which would list a million indices."""
    file = KerasFile()
    file.input("x", 3)
    for i in range(2000):
        file.add("RepeatVector", f"l{i}", "x", n=2**20)
    file.add("Add", "sum", [f"l{i}" for i in range(2000)])
    return file


def calls_of_calls() -> dict[str, Any]:
    """A model that calls one twice that calls one twice, and so on: 2**14 layers of 14."""
    inner = KerasFile()
    inner.input("x", 3)
    inner.add("ReLU", "last", "x")
    config = inner.config("last")
    for _ in range(14):
        outer = KerasFile()
        outer.input("x", 3)
        outer.add_model("inner", config, "x", "x")
        outer.add("Add", "last", [("inner", 1), ("inner", 2)])
        config = outer.config("last")
    return config


def lists_in_lists(depth: int) -> dict[str, Any]:
    config = dense().config("dense")
    units: list[Any] = []
    for _ in range(depth):
        units = [units]
    config["config"]["layers"][1]["config"]["units"] = units
    return config


def models_in_models() -> dict[str, Any]:
    config = dense().config("dense")
    for _ in range(100):
        ends = [["inner", 0, 0]]
        layers = [{**config, "name": "inner", "inbound_nodes": []}]
        inner = {"name": "m", "layers": layers, "input_layers": ends, "output_layers": ends}
        config = {"class_name": "Functional", "config": inner}
    return config


CONFIGS: dict[str, tuple[type[DeepChipError], Callable[[], Any], str]] = {
    "calls": (UnsupportedError, calls_of_calls, "more than 8192 calls of layers"),
    "lists": (InvalidModelError, lambda: lists_in_lists(800), "'units' is '[[[["),
    "models": (InvalidModelError, models_in_models, "models are nested more than 16 deep"),
    "repetitions": (InvalidModelError, lambda: repetitions().config("sum"), OVER),
    "sizes": (
        InvalidModelError,
        lambda: {
            "class_name": "Sequential",
            "config": {
                "name": "s",
                "layers": [
                    {
                        "class_name": "ReLU",
                        "config": {"name": "r", "batch_input_shape": [None, 2**31 - 1, 2**31 - 1]},
                    }
                ],
            },
        },
        "layer 'r/relu': Relu of (2147483647, 2147483647) would give",
    ),
    "control characters": (
        UnsupportedError,
        lambda: (
            chained("ReLU", 1).config("l0")
            | {"class_name": "Functional", "config": _with_layer_named("\x1b[2J\n")}
        ),
        r"1 unsupported layer: Attention (layer '\x1b[2J\n')",
    ),
}


def _with_layer_named(name: str) -> Any:
    file = KerasFile()
    file.input("x", 3)
    file.add("Attention", name, "x")
    return file.config(name)["config"]


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_beyond_reason(tmp_path: Path, name: str) -> None:
    error, make, text = CONFIGS[name]
    path = write_keras(tmp_path / "net.keras", make(), weights_3({}), "2.15.0")
    check_attack(error, text, path)


@pytest.mark.parametrize("depth", [950, 980, 1000, 100_000])
def test_lists_as_deep_as_python_goes(tmp_path: Path, depth: int) -> None:
    """What is parsed just so cannot be shown any more."""
    text = json.dumps(dense().config("dense"))
    assert '"units": 2' in text
    text = text.replace('"units": 2', f'"units": {"[" * depth}{"]" * depth}')
    path = bomb(
        tmp_path, zipfile.ZIP_STORED, {"config.json": text.encode(), "model.weights.h5": b""}
    )
    check_attack(InvalidModelError, "", path)
