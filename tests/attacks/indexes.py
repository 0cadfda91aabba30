"""Indexes of model files by hand, for graphs that no converter would make."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from .forge import forged

ONE_LEVEL = ("levels", b"\x00\x00\x80\x3f")  # 1.0
CODES = {"scale": 0.5, "zero_point": 0, "bits": 4}


def index(values: dict[str, Any], nodes: list[Any], **other: Any) -> bytes:
    """The index of a network from "x" to "y"."""
    ends = {"producer": "p", "name": "n", "inputs": ["x"], "outputs": ["y"]}
    found = {**ends, "values": values, "nodes": nodes, **other}
    return json.dumps(found, separators=(",", ":")).encode()


def value(*shape: int, codes: bool = False) -> dict[str, Any]:
    """The description of a value."""
    return {"shape": list(shape), **({"quantization": CODES} if codes else {})}


def node(
    name: str,
    op: str,
    inputs: Sequence[str],
    output: str,
    attributes: dict[str, Any] | None = None,
    **tensors: Any,
) -> dict[str, Any]:
    """The description of a node."""
    return {
        "name": name,
        "op": op,
        "inputs": list(inputs),
        "output": output,
        "attributes": attributes or {},
        "tensors": tensors,
    }


def tensor(encoding: str, shape: Sequence[int], *streams: tuple[str, bytes], **more: Any) -> Any:
    """The description of a tensor of these streams."""
    listed = [[name, len(data), sha256(data).hexdigest()] for name, data in streams]
    return {"encoding": encoding, "shape": list(shape), **more, "streams": listed}


def empty(*shape: int) -> Any:
    """Weights of one level that are all zero, in the 4 bytes of `ONE_LEVEL`."""
    more = {"levels": 1, "per_channel": False, "nonzeros": 0, "distance_bits": 2, "symbols": 0}
    return tensor("runlength", shape, ONE_LEVEL, ("distances", b""), ("codes", b""), **more)


def full(*shape: int) -> Any:
    """Weights that are all 1, in 6 bytes: the symbol of each table is sent in no bits."""
    count = shape[0] * shape[1]
    more = {"levels": 1, "per_channel": False, "nonzeros": count, "distance_bits": 2}
    streams = (("distances", b""), ("code_table", b"\1"), ("codes", b""))
    table = ("distance_table", b"\1")
    return tensor("huffman", shape, ONE_LEVEL, table, *streams, **more, symbols=count)


FULL_STREAMS = b"\x00\x00\x80\x3f\1\1"


def chain(layers: Sequence[tuple[str, dict[str, Any], dict[str, Any], Any]], first: Any) -> bytes:
    """The index of layers that read one another: operator, attributes, tensors, what it gives."""
    values, nodes, before = {"x": first}, [], "x"
    for number, (op, attributes, tensors, given) in enumerate(layers, 1):
        output = "y" if number == len(layers) else f"v{number}"
        values[output] = given
        nodes.append(node(f"layer{number}", op, [before], output, attributes, **tensors))
        before = output
    return index(values, nodes)


def connected(weights: Sequence[Any], streams: bytes = ONE_LEVEL[1]) -> bytes:
    """A model file of fully connected layers, each of which has the same streams."""
    layers = [("FullyConnected", {}, {"weight": w}, value(w["shape"][0])) for w in weights]
    return forged(chain(layers, value(weights[0]["shape"][1])), streams * len(weights))


def single(op: str, attributes: dict[str, Any], before: Any, after: Any, **tensors: Any) -> bytes:
    """The index of a network of one node."""
    return chain([(op, attributes, tensors, after)], before)
