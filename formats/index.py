"""The index of a model file: a graph as JSON, without the bytes of its tensors.

Read strictly: what is missing, unknown, doubled or of another type is an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .check import MAX_NAME
from .encodings import Description
from .errors import InvalidModelError, located
from .graph import Attribute, Graph, Node, Quantization, Tensor, Value

MAX_NODES = 2**12
MAX_OBJECTS = 2**17
"""JSON objects and lists of an index: of empty ones, 2 MiB would become 45 in memory."""
MAX_ELEMENTS = 2**18
"""Elements of all objects and lists of an index, to which keys and indices count."""


class StreamEntry(NamedTuple):
    """A stream as the index names it; streams of a node lie end to end in this order."""

    name: str
    size: int
    sha256: str


Entries = dict[str, tuple[Description, list[StreamEntry]]]
"""For each tensor of a node its description and streams, in the order in which they are stored."""

Resolve = Callable[[str, Entries], Mapping[str, Tensor]]
"""Gives the tensors of the node of a name; called for each node in turn."""


def to_json(graph: Graph, producer: str, tensors: list[Entries]) -> bytes:
    """Return the index of `graph`, whose nodes' tensors are stored as `tensors` says."""
    index = {
        "producer": producer,
        "name": graph.name,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "values": {name: _value_to_json(value) for name, value in graph.values.items()},
        "nodes": [
            {
                "name": node.name,
                "op": node.op,
                "inputs": list(node.inputs),
                "output": node.output,
                "attributes": dict(node.attributes),
                "tensors": {
                    name: {**description, "streams": [list(entry) for entry in streams]}
                    for name, (description, streams) in entries.items()
                },
            }
            for node, entries in zip(graph.nodes, tensors, strict=True)
        ],
    }
    return json.dumps(index, separators=(",", ":"), allow_nan=False).encode()


def _value_to_json(value: Value) -> dict[str, Any]:
    found: dict[str, Any] = {"shape": list(value.shape)}
    if value.quantization is not None:
        q = value.quantization
        found["quantization"] = {"scale": q.scale, "zero_point": q.zero_point, "bits": q.bits}
    return found


def from_json(text: bytes, resolve: Resolve) -> Graph:
    """Return the graph that an index describes; `resolve` gives the tensors of each node.

    Raises
    ------
    InvalidModelError
        The text is no JSON of the index's form. Whether the graph makes sense is for `check_graph`.
    """
    objects, elements = text.count(b"{") + text.count(b"["), text.count(b",")
    if objects > MAX_OBJECTS or elements > MAX_ELEMENTS:
        raise InvalidModelError(
            f"an index of {objects} objects and lists with {elements} commas, "
            f"at most {MAX_OBJECTS} and {MAX_ELEMENTS}"
        )
    try:
        index = json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidModelError(f"the index is no JSON: {str(error).splitlines()[0]}") from None
    index = _fields(
        index, producer=str, name=str, inputs=list, outputs=list, values=dict, nodes=list
    )
    if len(index["nodes"]) > MAX_NODES or len(index["values"]) > 2 * MAX_NODES:
        raise InvalidModelError(
            f"{len(index['nodes'])} layers and {len(index['values'])} values, "
            f"at most {MAX_NODES} and {2 * MAX_NODES}"
        )
    values = {}
    for name, found in index["values"].items():
        with located(f"value {name[:80]!r}"):
            values[name] = _value(name, found)
    nodes = tuple(_node(i, found, resolve) for i, found in enumerate(index["nodes"]))
    return Graph(
        index["name"], _strings(index["inputs"]), _strings(index["outputs"]), values, nodes
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a key twice")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _value(name: str, found: Any) -> Value:
    optional = {"quantization": dict} if "quantization" in _object_of(found) else {}
    found = _fields(found, shape=list, **optional)
    if not all(type(n) is int for n in found["shape"]):
        raise InvalidModelError(f"shape is {found['shape']}, expected integers")
    if not optional:
        return Value(name, tuple(found["shape"]))
    q = _fields(found["quantization"], scale=float, zero_point=int, bits=int)
    quantization = Quantization(q["scale"], q["zero_point"], q["bits"])
    return Value(name, tuple(found["shape"]), quantization)


def _node(position: int, found: Any, resolve: Resolve) -> Node:
    with located(f"layer {position}"):
        found = _fields(
            found, name=str, op=str, inputs=list, output=str, attributes=dict, tensors=dict
        )
    name = found["name"]
    with located(f"layer {name[:MAX_NAME]!r}"):
        inputs = _strings(found["inputs"])
        attributes = {key: _attribute(key, value) for key, value in found["attributes"].items()}
        entries = {key: _entry(value) for key, value in found["tensors"].items()}
    tensors = resolve(name, entries)
    return Node(name, found["op"], inputs, found["output"], attributes, tensors)


def _attribute(key: str, value: Any) -> Attribute:
    if type(value) in (int, float):
        return value
    if type(value) is list and all(type(n) is int for n in value):
        return tuple(value)
    raise InvalidModelError(f"attribute {key[:80]!r} is neither a number nor a list of integers")


def _entry(found: Any) -> tuple[Description, list[StreamEntry]]:
    description = dict(_object_of(found))
    streams = description.pop("streams", None)
    if type(streams) is not list:
        raise InvalidModelError("a tensor names no streams")
    entries = []
    for stream in streams:
        types = [type(part) for part in stream] if type(stream) is list else []
        if types != [str, int, str] or stream[1] < 0:
            raise InvalidModelError(f"a stream is {str(stream)[:80]}, expected name, size, SHA-256")
        entries.append(StreamEntry(*stream))
    if len({entry.name for entry in entries}) != len(entries):
        raise InvalidModelError("a tensor names a stream twice")
    return description, entries


def _fields(found: Any, **types: type) -> dict[str, Any]:
    """Return `found` if it is an object of exactly these keys and types."""
    if set(_object_of(found)) != set(types):
        raise InvalidModelError(f"an object has keys {sorted(found)}, expected {sorted(types)}")
    for key, kind in types.items():
        if type(found[key]) is not kind:
            raise InvalidModelError(f"{key} is {str(found[key])[:80]!r}, expected {kind.__name__}")
    return dict(found)


def _object_of(found: Any) -> dict[str, Any]:
    if type(found) is not dict:
        raise InvalidModelError(f"{str(found)[:80]!r} stands where an object should")
    return found


def _strings(found: list[Any]) -> tuple[str, ...]:
    if not all(type(name) is str for name in found):
        raise InvalidModelError(f"{str(found)[:80]} is no list of names")
    return tuple(found)
