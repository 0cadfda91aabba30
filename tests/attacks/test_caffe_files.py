"""Descriptions of Caffe and files of Deep Compression that want to fill, hang or deceive."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from deepchip.converter.readers.caffe.deep_compression import read_deep_compression
from deepchip.formats.errors import DeepChipError, InputError, InvalidModelError, UnsupportedError
from tests.converter.caffe_files import Stored, codebook, description, layer, net_file

from .exports import OVER, attacked, check_attack
from .harness import check_bounds

FC = layer("InnerProduct", "data", "fc", "inner_product_param { num_output: 2 }")


def stored() -> bytes:
    codes = np.arange(64, dtype=np.uint8).reshape(2, 32) % 16
    return net_file(Stored(codebook(0, 4), codes, np.zeros(2, np.float32), 4))


def write(folder: Path, text: str | bytes, data: bytes) -> tuple[Path, Path]:
    path, described = folder / "net.net", folder / "net.prototxt"
    path.write_bytes(data)
    described.write_bytes(text.encode() if isinstance(text, str) else text)
    return path, described


def chained(count: int) -> str:
    return "\n".join(layer("ReLU", f"b{i - 1}" if i else "data", f"b{i}") for i in range(count))


def joined() -> str:
    """2**64 elements by joining a blob with itself."""
    names = ["data", *(f"b{i}" for i in range(64))]
    return "\n".join(layer("Concat", f"{one},{one}", two) for one, two in pairwise(names))


DESCRIPTIONS: dict[str, tuple[type[DeepChipError], Callable[[], str | bytes], str]] = {
    "blocks in blocks": (
        InvalidModelError,
        lambda: "layer { " * 30_000,
        "line 1: blocks nest deeper than 16",
    ),
    "long": (UnsupportedError, lambda: "# " * 2**22, "has more than 262144 bytes"),
    "fields": (
        UnsupportedError,
        lambda: "a:1 " * 2**14,
        "fields that are not supported: a (line 1)",
    ),
    "digits": (
        InvalidModelError,
        lambda: f"input_dim: {'9' * 10**5}",
        "line 1: a number of 100000 digits",
    ),
    "sizes": (
        InvalidModelError,
        lambda: description(FC, shape=(1, 10**30, 10**30, 1)),
        "layer 'fc/flat'",
    ),
    "outputs": (
        UnsupportedError,
        lambda: description(FC.replace("num_output: 2", f"num_output: {2**40}")),
        "weights of shape (1099511627776, 32)",
    ),
    "kernels": (
        UnsupportedError,
        lambda: description(
            layer(
                "Convolution",
                "data",
                "c",
                f"convolution_param {{ num_output: 1 kernel_size: {2**40} }}",
            )
        ),
        "weights of shape (1, 2, 1099511627776, 1099511627776)",
    ),
    "a circle": (
        InvalidModelError,
        lambda: description(layer("ReLU", "b", "a"), layer("ReLU", "a", "b"), FC),
        "layer 'a': ReLU reads 'b', which no layer before it gives",
    ),
    "joins": (InvalidModelError, lambda: description(joined()), "Concat of"),
    "control characters": (
        UnsupportedError,
        lambda: description(layer("\x1b[2J", "data", "fc")),
        r"1 unsupported layers: \x1b[2J (layer 'fc'",
    ),
    "bytes": (InvalidModelError, lambda: b"name: \xff", "byte 6 is no UTF-8"),
    "unsupported layers": (
        UnsupportedError,
        lambda: description(*(layer(f"T{i}", "data", f"b{i}") for i in range(3500))),
        "3500 unsupported layers: T0 (layer 'b0', line 2), ",
    ),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_descriptions(tmp_path: Path, name: str) -> None:
    error, make, text = DESCRIPTIONS[name]
    path, described = write(tmp_path, make(), stored())
    outcome = attacked(path, described)
    check_bounds(outcome, 0)
    assert (outcome.kind, outcome.error) == ("refused", error.__name__), outcome
    assert text in outcome.text and outcome.text.isprintable(), outcome


def test_rows_that_are_not_paid_for(tmp_path: Path) -> None:
    """300 layers of 2**20 outputs and no entry: 68 bytes each, and 4 MB or more when read."""
    settings = "inner_product_param { num_output: 1048576 bias_term: false }"
    text = description(
        *(layer("InnerProduct", "data", f"fc{i}", settings) for i in range(300)), shape=(1, 1)
    )
    data = struct.pack("<300I", *[0] * 300) + bytes(64 * 300)
    check_attack(InvalidModelError, OVER, *write(tmp_path, text, data))


def test_truncated_at_every_byte(tmp_path: Path) -> None:
    data = stored()
    path, described = write(tmp_path, description(FC), data)
    read_deep_compression(path, described)
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(InvalidModelError):
            read_deep_compression(path, described)


def test_pipes_are_no_files(tmp_path: Path) -> None:
    path, described = write(tmp_path, description(FC), stored())
    described.unlink()
    os.mkfifo(described)
    outcome = attacked(path, described)
    check_bounds(outcome, 0)
    assert (outcome.error, outcome.text) == (
        InputError.__name__,
        "net.prototxt: is no regular file",
    )
