"""Load bombs: small files that ask for much time or memory; most of them say nothing wrong.

The limits of SPEC.md that refuse them were found by measuring: without, some took gigabytes.
"""

from __future__ import annotations

import json
import zlib

import numpy as np

from deepchip.formats.container import container_bytes
from deepchip.formats.errors import UnsupportedError
from deepchip.formats.index import MAX_NODES

from .forge import forged
from .indexes import (
    FULL_STREAMS,
    ONE_LEVEL,
    chain,
    connected,
    empty,
    full,
    index,
    node,
    single,
    tensor,
    value,
)
from .table import Table

BOMBS = Table()
PLANS = Table()
"""Those that can be read, but not be planned."""
POINT = {"strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0]}


@BOMBS.refused("unpacks to more than 2097152 bytes")
def an_index_of_a_gigabyte() -> bytes:
    packer = zlib.compressobj(9)
    parts = [packer.compress(b" " * 2**24) for _ in range(64)]
    return container_bytes(b"".join([*parts, packer.flush()]), [])


@BOMBS.refused("objects and lists")
def empty_lists() -> bytes:
    return forged(b"[" + b",".join([b"[]"] * 600_000) + b"]")


@BOMBS.refused("objects and lists")
def a_million_lists_in_lists() -> bytes:
    return forged(b"[" * 10**6 + b"]" * 10**6)


@BOMBS.refused("the index is no JSON")
def lists_in_lists_as_deep_as_counts() -> bytes:
    return forged(b"[" * 2**17 + b"]" * (2**17 - 1))


@BOMBS.refused("an object has keys")
def keys_as_many_as_count() -> bytes:
    return forged(json.dumps({f"{i:x}": 0 for i in range(206_000)}, separators=(",", ":")).encode())


@BOMBS.refused("commas, at most")
def indices_more_than_count() -> bytes:
    return taken(2**18)


@BOMBS.refused("is neither a number nor a list of integers")
def floats_as_many_as_count() -> bytes:
    return forged(single("Relu", {"a": [1.5] * 2**17}, value(1), value(1)))


@BOMBS.refused("attributes: missing [], unknown")
def attributes_as_many_as_count() -> bytes:
    return forged(single("Relu", {f"{i}": 0 for i in range(2**16)}, value(1), value(1)))


@BOMBS.refused("streams are")
def streams_of_no_bytes() -> bytes:
    weight = tensor("csr", [1, 1], *((f"{i}", b"") for i in range(19_000)))
    weight |= {"levels": 1, "per_channel": False, "nonzeros": 0}
    return connected([weight], b"")


@BOMBS.refused("layers and")
def sixty_thousand_values() -> bytes:
    values = {f"{i}": value(1) for i in range(60_000)}
    return forged(index({**values, "x": value(1), "y": value(1)}, [node("r", "Relu", "x", "y")]))


@BOMBS.refused("layers and")
def layers_one_too_many() -> bytes:
    return forged(chain([("Relu", {}, {}, value(1))] * (MAX_NODES + 1), value(1)))


@BOMBS.refused("is not a float32")
def a_scale_of_a_million_digits() -> bytes:
    text = single("Quantize", {}, value(4), value(4, codes=True))
    return forged(text.replace(b"0.5", b"0." + b"1" * 10**6))


@BOMBS.refused("the index is no JSON")
def an_integer_of_a_million_digits() -> bytes:
    return forged(single("Relu", {}, value(4), value(4)).replace(b"4", b"1" * 10**6))


@BOMBS.refused("inputs, at most 32768")
def one_layer_of_many_inputs() -> bytes:
    count = 2**17
    nodes = [node("c", "Concat", ["x"] * count, "y", {"axis": 0})]
    return forged(index({"x": value(1), "y": value(count)}, nodes))


@BOMBS.refused("Reshape of (1,) to (2147483647")
def a_product_of_many_numbers() -> bytes:
    return forged(single("Reshape", {"shape": [2**31 - 1] * 150_000}, value(1), value(1)))


@BOMBS.refused("at most 1048624 are decoded", UnsupportedError)
def symbols_of_no_bits() -> bytes:
    return connected([full(1025, 1024)], FULL_STREAMS)


@BOMBS.refused("at most 96 are decoded", UnsupportedError)
def symbols_of_no_bits_in_many_layers() -> bytes:
    return connected([full(1024, 1024)] * 900, FULL_STREAMS)


@BOMBS.refused("at most 64 are decoded", UnsupportedError)
def empty_rows_in_many_layers() -> bytes:
    return connected([empty(2**20, 1), empty(1, 2**20)] * 200)


@BOMBS.refused("fewer than 2147483648", UnsupportedError)
def a_weight_of_terabytes() -> bytes:
    return connected([empty(2**20, 2**31)])


@BOMBS.refused("the matrix holds")
def distances_beyond_what_32_bits_count() -> bytes:
    """Gaps of 254 that span 2**32 positions; honest in that every one is there."""
    count = 2**24
    more = {"levels": 1, "per_channel": False, "nonzeros": count, "distance_bits": 8}
    streams = (ONE_LEVEL, ("distances", b"\xfe" * count), ("codes", b""))
    weight = tensor("runlength", [2**13, 2**13], *streams, **more, symbols=count)
    return connected([weight], b"".join(data for _, data in streams))


@PLANS.refused("values of one item take", UnsupportedError)
def an_input_of_gigabytes() -> bytes:
    return connected([empty(1, 2**31 - 1)])


@PLANS.refused("values of one item take", UnsupportedError)
def pads_of_gigabytes() -> bytes:
    attributes = {**POINT, "groups": 1, "pads": [65535, 32766, 0, 0]}
    weight = empty(1, 1, 65536, 32767)
    text = single("Conv", attributes, value(1, 1, 1), value(1, 1, 1), weight=weight)
    return forged(text, ONE_LEVEL[1])


@BOMBS.read
def all_the_symbols_of_no_bits() -> bytes:
    return connected([full(1, 2**20)], FULL_STREAMS)


@BOMBS.read
def a_million_rows() -> bytes:
    return connected([empty(2**20, 1)])


@BOMBS.read
def layers_as_many_as_there_may_be() -> bytes:
    return forged(chain([("Relu", {}, {}, value(4))] * MAX_NODES, value(4)))


@BOMBS.read
def values_that_live_long() -> bytes:
    """All are read again at the end, so that all are in the arena at once."""
    half = MAX_NODES // 2
    nodes = [node(f"r{i}", "Relu", [f"v{i}"], f"v{i + 1}") for i in range(half)]
    values = {f"v{i}": value(4) for i in range(2 * half + 1)}
    for i in range(half):
        names = [f"v{half + i}", f"v{half - i}"]
        nodes.append(node(f"a{i}", "Add", names, f"v{half + i + 1}"))
    return forged(index(values, nodes, inputs=["v0"], outputs=[f"v{2 * half}"]))


@BOMBS.read
def outputs_as_many_as_layers() -> bytes:
    count = MAX_NODES
    nodes = [node(f"{i}", "Relu", [f"v{i}"], f"v{i + 1}") for i in range(count)]
    values = {f"v{i}": value(4) for i in range(count + 1)}
    outputs = [f"v{i + 1}" for i in range(count)]
    return forged(index(values, nodes, inputs=["v0"], outputs=outputs))


@BOMBS.read
def inputs_as_many_as_values() -> bytes:
    names = [f"v{i}" for i in range(2 * MAX_NODES - 1)]
    values = {**{name: value(1) for name in names}, "y": value(1)}
    return forged(index(values, [node("r", "Relu", ["v0"], "y")], inputs=names))


def concatenations(count: int) -> bytes:
    """Of one value, many times."""
    nodes = [node(f"c{i}", "Concat", ["x"] * count, f"v{i}", {"axis": 0}) for i in range(3)]
    nodes.append(node("c", "Concat", ["v0", "v1", "v2"], "y", {"axis": 0}))
    values = {f"v{i}": value(count) for i in range(3)}
    return forged(index({"x": value(1), **values, "y": value(3 * count)}, nodes))


@BOMBS.read
def concatenations_of_many() -> bytes:
    return concatenations(2**13)


def taken(count: int) -> bytes:
    """One element, many times."""
    return forged(single("Take", {"axis": 0, "indices": [0] * count}, value(1), value(count)))


@BOMBS.read
def indices_as_many_as_count() -> bytes:
    return taken(2**17)


def convolutions(count: int) -> bytes:
    """Layers whose weights are all zero."""
    attributes = {**POINT, "pads": [3, 3, 3, 3], "groups": 1}
    codes = value(1, 16, 16, codes=True)
    layer = ("Conv", attributes, {"weight": empty(1, 1, 7, 7)}, codes)
    layers = [("Quantize", {}, {}, codes), *[layer] * count]
    layers.append(("Dequantize", {}, {}, value(1, 16, 16)))
    return forged(chain(layers, value(1, 16, 16)), ONE_LEVEL[1] * count)


@BOMBS.read
def two_thousand_convolutions() -> bytes:
    return convolutions(2000)


@BOMBS.read
def levels_of_each_channel() -> bytes:
    """Honest: 255 levels a channel, each of them taken; nothing that planning may multiply."""
    rows, columns = 64, 4096
    random = np.random.default_rng(0)
    levels = np.sort(random.normal(size=(rows, 255)).astype("<f4")).tobytes()
    codes = random.integers(0, 255, rows * columns, np.uint8).tobytes()
    more = {"levels": 255, "per_channel": True, "nonzeros": rows * columns, "distance_bits": 2}
    streams = (("levels", levels), ("distances", bytes(rows * columns // 4)), ("codes", codes))
    weight = tensor("runlength", [rows, columns], *streams, **more, symbols=rows * columns)
    return connected([weight], b"".join(data for _, data in streams))
