"""Writes what fuzzing starts from: `python -m fuzz.seeds FOLDER`, a folder for each target."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deepchip.formats.graph import Graph
from deepchip.formats.model_file import model_bytes
from tests.attacks.forge import Parts
from tests.converter.caffe_files import Stored, codebook, description, layer, net_file
from tests.formats.networks import lenet5, more_operators, operators, residual, small


def _models() -> Iterator[bytes]:
    graphs: list[Graph] = [small(), residual(), operators(), more_operators(), lenet5()]
    for graph in graphs:
        for encoding in ("csr", "runlength", "huffman"):
            yield model_bytes(graph, encoding)


def _texts() -> Iterator[bytes]:
    settings = (
        "convolution_param { num_output: 3 kernel_size: 3 pad: 1 stride: 2 group: 1 }",
        "pooling_param { pool: MAX kernel_size: 2 stride: 2 }",
        "inner_product_param { num_output: 4 bias_term: false }",
        "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }",
    )
    for kind, text in zip(("Convolution", "Pooling", "InnerProduct", "LRN"), settings, strict=True):
        yield description(layer(kind, "data", "y", text)).encode()
    yield description(
        layer("Convolution", "data", "a", settings[0]),
        layer("ReLU", "a", "a", name="relu"),
        layer("Concat", "a,a", "b", "concat_param { axis: 1 }"),
        layer("Softmax", "b", "y"),
    ).encode()


def _nets() -> Iterator[bytes]:
    codes = np.array([[0, 1, 0, 2], [3, 0, 0, 0], [0] * 4, [0, 0, 0, 255]], np.uint8)
    settings = "inner_product_param { num_output: 4 }"
    for kind, name, bits in (("InnerProduct", "fc", 4), ("InnerProduct", "conv", 8)):
        stored = Stored(codebook(1, bits), np.minimum(codes, 2**bits - 1), np.zeros(4, "f4"), bits)
        text = description(layer(kind, "data", name, settings), shape=(1, 4, 1, 1))
        yield text.encode() + b"\xff" + net_file(stored)


def _arrays() -> Iterator[bytes]:
    for save in (np.save, np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, np.arange(6, dtype="f4").reshape(2, 3))
        yield buffer.getvalue()


def main() -> None:
    """Write a folder of seeds for each target that needs some."""
    models = list(_models())
    seeds = {
        "model": models,
        "running_model": models,
        "container": models[:1],
        "index": [json.dumps(Parts.of(data).index).encode() for data in models],
        "prototxt": _texts(),
        "deep_compression": _nets(),
        "arrays": _arrays(),
    }
    for name, files in seeds.items():
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(files):
            (folder / f"seed-{number}").write_bytes(data)


if __name__ == "__main__":
    main()
