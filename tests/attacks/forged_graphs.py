"""Model files whose graph, or its text, is wrong in one thing, with right digests.

Each begins as LeNet-5, or as the network of the other operators.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

from deepchip.formats.model_file import model_bytes
from tests.formats.networks import more_operators

from .forge import Json, Parts, forged
from .forgeries import Change, changed_by, lenet
from .table import Make, Table

GRAPHS = Table()


def _forged(text: str) -> Callable[[Change], Make]:
    """Add what a function makes of LeNet-5's parts."""
    return changed_by(GRAPHS, lenet, text)


@cache
def _others() -> bytes:
    return model_bytes(more_operators())


def _other(text: str) -> Callable[[Change], Make]:
    """Add what a function makes of the parts of a network of the other operators."""
    return changed_by(GRAPHS, _others, text)


def _attributes(parts: Parts, layer: str = "conv1") -> Json:
    return parts.node(layer)["attributes"]


@_forged("reads 'fc3', which no layer before it gives")
def a_circle(parts: Parts) -> None:
    parts.node("conv1")["inputs"] = ["fc3"]


@_forged("reads 'fc1', which no layer before it gives")
def a_layer_that_reads_itself(parts: Parts) -> None:
    parts.node("fc1")["inputs"] = ["fc1"]


@_forged("is given before")
def a_value_given_twice(parts: Parts) -> None:
    parts.node("fc2")["output"] = "fc1"


@_forged("a second layer of this name")
def a_name_twice(parts: Parts) -> None:
    parts.node("fc2")["name"] = "fc1"


@_forged("operator 'Lstm' is unknown")
def an_unknown_operator(parts: Parts) -> None:
    parts.node("fc1")["op"] = "Lstm"


@_forged("unknown ['command']")
def an_unknown_attribute(parts: Parts) -> None:
    _attributes(parts)["command"] = 1


@_forged("attribute 'strides'")
def strides_of_nothing(parts: Parts) -> None:
    _attributes(parts)["strides"] = [0, 0]


@_forged("attribute 'groups'")
def no_groups(parts: Parts) -> None:
    _attributes(parts)["groups"] = 0


@_forged("in 3 groups do not fit")
def groups_that_do_not_divide(parts: Parts) -> None:
    _attributes(parts)["groups"] = 3


@_forged("attribute 'pads'")
def pads_without_end(parts: Parts) -> None:
    _attributes(parts)["pads"] = [2**62] * 4


@_forged("reach as far as its kernel")
def a_window_of_nothing_but_pads(parts: Parts) -> None:
    _attributes(parts, "pool1")["pads"] = [2, 2, 2, 2]


@_forged("expected the shape of its output")
def a_residual_of_another_shape(parts: Parts) -> None:
    parts.node("conv2")["inputs"].append("codes")


@_forged("is quantized, expected float32")
def an_output_of_codes(parts: Parts) -> None:
    parts.index["outputs"] = ["fc2"]


@_forged("activations of 9 bits")
def codes_of_nine_bits(parts: Parts) -> None:
    parts.index["values"]["fc1"]["quantization"]["bits"] = 9


@_forged("is no code of 4 bits")
def a_zero_point_outside(parts: Parts) -> None:
    parts.index["values"]["fc1"]["quantization"]["zero_point"] = 16


@_forged("is not a float32 between")
def a_scale_of_zero(parts: Parts) -> None:
    parts.index["values"]["fc1"]["quantization"]["scale"] = 0.0


@_forged("a layer is named")
def a_name_that_turns_the_text_around(parts: Parts) -> None:
    parts.node("fc1")["name"] = "\u202egnp.tac"


@_forged("a layer is named")
def a_name_that_clears_the_terminal(parts: Parts) -> None:
    parts.node("fc1")["name"] = "\x1b[2J\r\n"


@_forged("a value is named")
def a_name_of_half_a_character(parts: Parts) -> None:
    values = parts.index["values"]
    values["\ud800"] = values.pop("fc1")


@_other("Take of 4 indices up to 3")
def an_index_outside(parts: Parts) -> None:
    _attributes(parts, "take")["indices"][0] = 3


@_other("attribute 'indices'")
def a_negative_index(parts: Parts) -> None:
    _attributes(parts, "take")["indices"][0] = -1


@_other("along a missing axis")
def an_axis_outside(parts: Parts) -> None:
    _attributes(parts, "take")["axis"] = 7


@_other("Resample")
def a_tap_outside(parts: Parts) -> None:
    _attributes(parts, "resample")["indices"][0] = 2**31 - 1


@_other("expected 6 numbers")
def pads_of_other_dimensions(parts: Parts) -> None:
    _attributes(parts, "pad")["pads"].append(1)


@_other("attribute 'value'")
def a_real_beyond_float32(parts: Parts) -> None:
    _attributes(parts, "pad")["value"] = 1e300


# The text


def _text(old: bytes, new: bytes) -> bytes:
    parts = Parts.of(lenet())
    text = json.dumps(parts.index).encode()
    assert old in text
    return forged(text.replace(old, new, 1), b"".join(parts.streams))


@GRAPHS.refused("expected name, size, SHA-256")
def a_stream_of_negative_size() -> bytes:
    return _text(b'"levels", 8', b'"levels", -8')


@GRAPHS.refused("names a key twice")
def a_key_twice() -> bytes:
    return _text(b'"op": "Conv"', b'"op": "Conv", "op": "Relu"')


@GRAPHS.refused("NaN is no number")
def a_scale_that_is_no_number() -> bytes:
    return _text(b'"scale": 0.5', b'"scale": NaN')


@GRAPHS.refused("scale inf")
def a_scale_beyond_float64() -> bytes:
    return _text(b'"scale": 0.5', b'"scale": 1e400')


@GRAPHS.refused("is neither a number nor a list of integers")
def attributes_a_thousand_deep() -> bytes:
    return _text(b'"groups": 1', b'"groups": ' + b"[" * 900 + b"]" * 900)


@GRAPHS.refused("the index is no JSON")
def text_that_is_no_utf_8() -> bytes:
    return _text(b'"lenet5"', b'"\xed\xa0\x80"')


@GRAPHS.refused("the index is no JSON")
def text_behind_the_text() -> bytes:
    parts = Parts.of(lenet())
    return forged(json.dumps(parts.index).encode() + b"{}", b"".join(parts.streams))
