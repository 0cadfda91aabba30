"""DeepChip: compressed neural networks, converted to one small file and run by NumPy and Numba.

>>> import deepchip
>>> deepchip.convert("net.onnx", "net.dchip")                                   # doctest: +SKIP
>>> model = deepchip.load("net.dchip")                                          # doctest: +SKIP
>>> logits = model(images)                                                      # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .converter.convert import convert
    from .converter.network import Network
    from .formats.errors import (
        DeepChipError,
        InputError,
        InvalidModelError,
        OutOfMemoryError,
        SignatureError,
        UnsupportedError,
    )
    from .profiling.measure import profile
    from .runtime.model import Model, load
    from .runtime.score import score

__all__ = [
    "DeepChipError",
    "InputError",
    "InvalidModelError",
    "Model",
    "Network",
    "OutOfMemoryError",
    "SignatureError",
    "UnsupportedError",
    "__version__",
    "convert",
    "load",
    "profile",
    "score",
]

_PLACES = {
    "DeepChipError": ".formats.errors",
    "InputError": ".formats.errors",
    "InvalidModelError": ".formats.errors",
    "Model": ".runtime.model",
    "Network": ".converter.network",
    "OutOfMemoryError": ".formats.errors",
    "SignatureError": ".formats.errors",
    "UnsupportedError": ".formats.errors",
    "convert": ".converter.convert",
    "load": ".runtime.model",
    "profile": ".profiling.measure",
    "score": ".runtime.score",
}
"""Names are imported when they are used: the converter is an extra, and the command line has to be
up before NumPy is, to be interrupted without a traceback."""


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        found = globals()[name] = getattr(import_module(_PLACES[name], __name__), name)
        return found
    raise AttributeError(f"module 'deepchip' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
