"""Fuzzing of what reads strangers' bytes; not installed. See README.md."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

TARGETS = {
    "fields": "decoders",
    "huffman_codes": "decoders",
    "distance_vectors": "decoders",
    "csr": "decoders",
    "tensors": "decoders",
    "index": "readers",
    "container": "readers",
    "model": "readers",
    "running_model": "readers",
    "prototxt": "readers",
    "deep_compression": "readers",
    "arrays": "readers",
}
"""Targets, and the module of each: a function of its name, which any bytes may be given to."""


def target(name: str) -> Callable[[bytes], None]:
    """Return a target."""
    function: Callable[[bytes], None] = getattr(import_module(f"fuzz.{TARGETS[name]}"), name)
    return function
