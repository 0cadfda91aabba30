"""Makes the files that the runtimes load, float32 and int8 as ONNX, and ours, and keeps them."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnx
from numpy.typing import NDArray

import deepchip
from deepchip import converter, formats
from deepchip.converter.progress import bar

CALIBRATION = 8
"""Images on which the peers and we choose the scales of activations."""

INT8 = ("u8", "s8")
"""Types of activations; weights are s8 in both. Which is faster depends on the CPU."""


@dataclass(frozen=True)
class Files:
    """The files of one network below a folder; each is made when it is first asked for."""

    folder: Path
    network: str
    zeros: float

    def float32(self) -> Path:
        """Return the network as built."""
        return self._made(
            f"{self._stem()}.onnx",
            lambda path: onnx.save(networks.build(self.network, self.zeros), path),
        )

    def int8(self, activations: str) -> Path:
        """Return the network as ONNX Runtime's static quantization makes it, of one of `INT8`."""
        name = f"{self._stem()}-{activations}-{version('onnxruntime')}.onnx"
        return self._made(
            name, lambda path: _quantize(self.float32(), path, activations, self._images())
        )

    def ours(self, bits: int) -> Path:
        """Return our model file, with activations of `bits` bits."""

        def make(path: Path) -> None:
            deepchip.convert(
                self.float32(), path, activations=bits, calibration=self._images(), progress=bar
            )

        sources = _digest(formats, converter)
        return self._made(f"{self._stem()}-{bits}bit-{sources}.dchip", make)

    def _stem(self) -> str:
        return f"{self.network}-{self.zeros:g}-{_digest(networks)}"

    def _images(self) -> NDArray[np.float32]:
        return networks.images(self.network, CALIBRATION)

    def _made(self, name: str, make: Callable[[Path], object]) -> Path:
        path = self.folder / name
        if not path.exists():
            print(f"making {name} ...", flush=True)
            partial = path.with_name(f"partial-{name}")
            make(partial)
            os.replace(partial, path)
        return path


def _digest(*modules: Any) -> str:
    """Return a few digits that change with the sources of modules and packages."""
    digest = hashlib.sha256()
    for module in modules:
        path = Path(module.__file__)
        sources = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
        for source in sources:
            digest.update(source.read_bytes())
    return digest.hexdigest()[:8]


def _quantize(source: Path, target: Path, activations: str, images: NDArray[np.float32]) -> None:
    """Quantize as the documentation of ONNX Runtime tells users to, per channel, as QDQ.

    Its other format, QOperator, runs as fast, and OpenVINO does not read it.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[NDArray[np.float32]] = iter(images[:, None])

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch}

    kinds = {"u8": quantization.QuantType.QUInt8, "s8": quantization.QuantType.QInt8}
    logging.getLogger().setLevel(logging.ERROR)  # it warns of what it does by itself
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            target,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=kinds[activations],
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=False,
        )
