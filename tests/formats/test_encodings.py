"""Weight tensors as streams: bytes computed by hand from SPEC.md, round trips, refusals."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepchip.formats import bitstream, encodings, huffman
from deepchip.formats.encodings import ENCODINGS, Encoded, encode
from deepchip.formats.errors import DeepChipError, InputError, InvalidModelError, UnsupportedError
from deepchip.formats.storage import Stream
from tests.formats.codec_checks import skip_without_compiler
from tests.formats.networks import check_same_weights, floats, level_weights, weights

# The matrix of SPEC.md: row lengths 1 and 2; columns 1, 0 and 2; one zero before each nonzero.
EXAMPLE = level_weights([[0, 1, 0], [2, 0, 1]], [-0.5, 0.75], gain=[1, 2])
LEVELS = {"levels": bytes.fromhex("000000bf 0000403f"), "gain": bytes.fromhex("0000803f 00000040")}
KEYS = {"shape": [2, 3], "levels": 2, "per_channel": False, "nonzeros": 3}
DISTANCES = {"distance_bits": 2, "symbols": 3}
BY_HAND = {
    "csr": (
        {"encoding": "csr", **KEYS},
        {**LEVELS, "row_lengths": b"\x09", "indices": b"\x21", "codes": b"\x02"},
    ),
    "runlength": (
        {"encoding": "runlength", **KEYS, **DISTANCES},
        {**LEVELS, "distances": b"\x15", "codes": b"\x02"},
    ),
    "huffman": (
        {"encoding": "huffman", **KEYS, **DISTANCES},
        {
            **LEVELS,
            "distance_table": b"\x10",
            "distances": b"",
            "code_table": b"\x11",
            "codes": b"\x02",
        },
    ),
    "dense": ({"encoding": "dense", "shape": [2]}, {"values": bytes.fromhex("0000803e 000080bf")}),
}


def arrays(streams):
    return {name: np.frombuffer(data, np.uint8) for name, data in streams.items()}


def decode(description, streams, *, compiled):
    """Decode streams that are arrays."""
    given = {name: Stream(data.size, lambda d=data: d) for name, data in streams.items()}
    return encodings.decode(description, given, compiled=compiled)


def opened(encoded: Encoded):
    return decode(encoded.description, encoded.streams, compiled=False)


@pytest.mark.parametrize("encoding", BY_HAND)
def test_bytes_computed_by_hand(encoding):
    description, streams = BY_HAND[encoding]
    tensor = floats(0.25, -1) if encoding == "dense" else EXAMPLE
    encoded = encode(tensor, encoding)
    assert encoded.description == description
    assert list(encoded.streams) == list(streams)  # the order is part of the format
    assert {name: data.tobytes() for name, data in encoded.streams.items()} == streams
    assert encoded.size == sum(map(len, streams.values()))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("compiled", [False, True])
def test_weights_of_bytes_computed_by_hand(encoding, compiled):
    description, streams = BY_HAND[encoding]
    found = decode(description, arrays(streams), compiled=compiled)
    expected = np.array([[0, -0.5, 0], [1.5, 0, -1]], np.float32)
    np.testing.assert_array_equal(found.to_dense(), expected, strict=True)
    assert (found.encoding, found.nonzeros) == (encoding, 3)
    assert found.stored == sum(map(len, streams.values()))


@pytest.mark.parametrize("compiled", [False, True])
def test_escapes_and_codes_of_several_lengths(compiled):
    """Nonzeros at 0, 1 and 9: gaps 0, 0 and 7 = 3 + 3 + 1, so the symbols 0 0 3 3 1.

    Lengths 1, 2, 0, 2 give them the codes 0 0 11 11 10; one level needs no bits.
    """
    description = {
        "encoding": "huffman", "shape": [2, 5], "levels": 1, "per_channel": True, "nonzeros": 3,
        "distance_bits": 2, "symbols": 5,
    }  # fmt: skip
    streams = {
        "levels": bytes.fromhex("0000803f 00000040"),
        "distance_table": b"\x21\x20",
        "distances": b"\x7c",
        "code_table": b"\x01",
        "codes": b"",
    }
    found = decode(description, arrays(streams), compiled=compiled)
    np.testing.assert_array_equal(found.to_dense(), [[1, 1, 0, 0, 0], [0, 0, 0, 0, 2]])


@given(weights())
def test_round_trips_and_auto(tensor):
    sizes = {}
    for encoding in ENCODINGS:
        encoded = encode(tensor, encoding)
        check_same_weights(opened(encoded), tensor)
        sizes[encoding] = encoded.size
    chosen = encode(tensor)
    assert chosen.size == min(sizes.values()) == sizes[chosen.description["encoding"]]
    check_same_weights(opened(chosen), tensor)


@given(hnp.arrays("f4", hnp.array_shapes(min_dims=0, max_dims=4, max_side=5)))
def test_dense_round_trips_bit_by_bit(values):
    found = opened(encode(values))
    assert found.shape == values.shape
    assert found.tobytes() == values.tobytes()  # NaN and -0.0 too


def test_other_memory_orders_and_dtypes_are_stored_as_row_major_float32():
    values = np.arange(6, dtype=">f8").reshape(2, 3)
    expected = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(opened(encode(values)), expected, strict=True)
    np.testing.assert_array_equal(opened(encode(values.T)), expected.T, strict=True)


def test_auto_takes_what_fits_the_weights():
    """Of 2 % nonzeros fixed indices are longest; on three nonzeros a Huffman table is lost."""
    random = np.random.default_rng(0)
    sparse = level_weights(random.random((64, 512)) < 0.02, [1.0])
    assert encode(sparse).size < encode(sparse, "csr").size
    assert encode(sparse).description["encoding"] == "huffman"
    assert encode(EXAMPLE).description["encoding"] == "runlength"  # 18 bytes against 19 and 19


def test_auto_takes_nothing_that_the_reader_refuses():
    """One level everywhere takes no bits in Huffman codes, and that is too good to be believed."""
    full = level_weights(np.ones((1200, 1200)), [1.0])
    check_same_weights(opened(encode(full)), full)


def test_unknown_encoding():
    with pytest.raises(InputError, match="expected one of auto, csr, runlength, huffman"):
        encode(EXAMPLE, "zip")


def test_codes_beyond_the_levels_are_not_encoded():
    with pytest.raises(InvalidModelError, match=r"codes\[1\] is 2, expected 1 to 1"):
        encode(replace(EXAMPLE, levels=floats(1)))


@pytest.mark.parametrize("changed", [{"nonzeros": 2}, {"shape": (3, 2)}, {"shape": (2, 4)}])
def test_weights_that_contradict_their_codes_are_not_encoded(changed):
    with pytest.raises(DeepChipError):
        encode(replace(EXAMPLE, **changed))


def refusal(description, streams) -> str:
    """What decoding says that it cannot do, at once or when the codes are asked for."""
    with pytest.raises((InvalidModelError, UnsupportedError)) as caught:
        decode(description, arrays(streams), compiled=False).decode()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "changed", "message"),
    [
        ("csr", {"encoding": "zip"}, "encoding 'zip' is unknown"),
        ("csr", {"encoding": None}, "encoding is 'None', expected str"),
        ("csr", {"shape": "2, 3"}, "shape is '2, 3', expected list"),
        ("csr", {"shape": [2, 3.0]}, "shape is (2, 3.0), expected at most 8 integers"),
        ("csr", {"shape": [2, True]}, "expected at most 8 integers of 1 or more"),
        ("csr", {"shape": [2, 0]}, "expected at most 8 integers of 1 or more"),
        ("csr", {"shape": [1] * 9}, "expected at most 8 integers of 1 or more"),
        ("csr", {"shape": [2**20 + 1, 1]}, "more than 1048576 rows"),
        ("csr", {"shape": [2**20, 2**11]}, "this release handles fewer than 2147483648"),
        ("csr", {"levels": 256}, "levels is '256', expected an integer up to 255"),
        ("csr", {"levels": -1}, "levels is '-1'"),
        ("csr", {"levels": 2.0}, "levels is '2.0'"),
        ("csr", {"levels": 1}, "levels has 8 bytes, expected 4"),
        ("csr", {"per_channel": 0}, "per_channel is '0', expected bool"),
        ("csr", {"per_channel": True}, "levels has 8 bytes, expected 16"),
        ("csr", {"nonzeros": 7}, "nonzeros is '7', expected an integer up to 6"),
        ("csr", {"nonzeros": 2}, "rows hold 3 nonzeros, the description says 2"),
        ("csr", {"more": 1}, "a csr tensor is described by ['encoding', 'levels', 'more'"),
        ("csr", {"symbols": 3}, "a csr tensor is described by"),
        ("runlength", {"distance_bits": 1}, "distances of 1 bits, expected 2 to 8"),
        ("runlength", {"distance_bits": 9}, "distances of 9 bits, expected 2 to 8"),
        ("runlength", {"symbols": True}, "symbols is 'True'"),
        ("runlength", {"symbols": 5}, "1 bytes for 5 fields of 2 bits, which take 2"),
        ("runlength", {"symbols": 2}, "padding bits must be zero"),
        ("runlength", {"symbols": 2**31}, "at most 1048720 are decoded"),
        ("huffman", {"symbols": 7}, "distances hold 7 nonzeros, the matrix holds 3"),
        ("huffman", {"nonzeros": 6}, "distances hold 3 nonzeros, the matrix holds 6"),
        ("dense", {"shape": [3]}, "values has 8 bytes, expected 12"),
        ("dense", {"levels": 2}, "a dense tensor is described by"),
    ],
)
def test_refused_descriptions(encoding, changed, message):
    description, streams = BY_HAND[encoding]
    assert message in refusal({**description, **changed}, streams)


@pytest.mark.parametrize("encoding", BY_HAND)
def test_a_missing_key_is_refused(encoding):
    description, streams = BY_HAND[encoding]
    for key in description:
        refusal({k: value for k, value in description.items() if k != key}, streams)


@pytest.mark.parametrize("encoding", BY_HAND)
def test_missing_doubled_and_reordered_streams_are_refused(encoding):
    description, streams = BY_HAND[encoding]
    for name in set(streams) - {"gain"}:
        fewer = {key: data for key, data in streams.items() if key != name}
        assert "streams are [" in refusal(description, fewer)
        if fewer:
            assert "streams are [" in refusal(description, {**fewer, name[::-1]: streams[name]})
    assert "streams are [" in refusal(description, {**streams, "other": b""})
    if len(streams) > 1:
        backwards = dict(reversed(streams.items()))
        assert "streams are [" in refusal(description, backwards)


@pytest.mark.parametrize(
    ("encoding", "stream", "data", "message"),
    [
        ("csr", "gain", "0000803f", "gain has 4 bytes, expected 8"),
        ("csr", "row_lengths", "0900", "2 bytes for 2 fields of 2 bits"),
        ("csr", "row_lengths", "0d", "rows hold 4 nonzeros, the description says 3"),
        ("csr", "row_lengths", "19", "padding bits must be zero"),
        ("csr", "indices", "23", "is 3 in row 0, the matrix has 3 columns"),
        ("csr", "indices", "0a", "is 2 and is followed by 0 in row 1"),
        ("csr", "codes", "0a", "padding bits must be zero"),
        ("runlength", "distances", "", "0 bytes for 3 fields of 2 bits"),
        ("runlength", "distances", "25", "decode to 7 positions, the matrix holds 6"),
        ("runlength", "distances", "35", "distances hold 2 nonzeros, the matrix holds 3"),
        ("huffman", "distance_table", "10000000", "4 bytes"),
        ("huffman", "distance_table", "1000", "ends with a zero byte"),
        ("huffman", "distance_table", "20", "one symbol has length 2"),
        ("huffman", "code_table", "12", "under-subscribed"),
        ("huffman", "code_table", "1101", "Huffman table of 2 symbols in 2 bytes"),
        ("huffman", "codes", "0202", "2 Huffman bytes, but 3 symbols end in 1"),
        ("huffman", "codes", "", "end before 3 symbols are read"),
    ],
)
def test_refused_streams(encoding, stream, data, message):
    description, streams = BY_HAND[encoding]
    assert message in refusal(description, {**streams, stream: bytes.fromhex(data)})


def test_the_code_after_the_last_level_is_refused():
    """Three levels take codes of two bits, of which one stands for no level; likewise 255."""
    three = encode(level_weights([[3]], [1, 2, 3]), "runlength")
    assert three.streams["codes"].tobytes() == b"\x02"
    streams = {**three.streams, "codes": b"\x03"}
    assert "codes[0] is 4, expected 1 to 3" in refusal(three.description, streams)
    many = encode(level_weights([[255]], np.arange(1, 256)), "runlength")
    streams = {**many.streams, "codes": b"\xff"}
    assert "codes[0] is 0, expected 1 to 255" in refusal(many.description, streams)


def test_levels_of_no_dimensions_are_refused():
    description, streams = BY_HAND["csr"]
    no_gain = {name: data for name, data in streams.items() if name != "gain"}
    refusal({**description, "shape": []}, no_gain)


@given(st.sampled_from(list(ENCODINGS)), weights(), st.data())
def test_damaged_streams_give_an_error_or_valid_codes(encoding, tensor, data):
    encoded = encode(tensor, encoding)
    name = data.draw(st.sampled_from(list(encoded.streams)))
    damaged = bytearray(encoded.streams[name].tobytes())
    for _ in range(data.draw(st.integers(1, 3)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    streams = {**encoded.streams, name: np.frombuffer(bytes(damaged), np.uint8)}
    step = data.draw(st.integers(1, 13))
    rows = 0
    try:
        for group in decode(encoded.description, streams, compiled=data.draw(st.booleans())).rows(
            step
        ):
            group.validate(encoded.description["levels"])
            rows += group.shape[0]
    except InvalidModelError:
        return
    assert rows == tensor.shape[0]


@given(
    st.sampled_from(list(ENCODINGS)), weights(), st.booleans(), st.integers(1, 13),
    st.integers(32, 60), st.integers(1, 60),
)  # fmt: skip
def test_rows_in_groups_of_any_size(encoding, tensor, compiled, step, octets, symbols):
    """However the decoders' slices and the groups of rows lie to one another."""
    encoded = encode(tensor, encoding)
    expected = tensor.decode().to_dense()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitstream, "_SLICE", 8 * octets)
        patch.setattr(huffman, "_SLICE", symbols)
        found = decode(encoded.description, encoded.streams, compiled=compiled)
        groups = list(found.rows(step))
        whole = found.decode()
    for start, group in zip(range(0, tensor.shape[0], step), groups, strict=True):
        group.validate(tensor.levels.shape[-1])
        np.testing.assert_array_equal(group.to_dense(), expected[start : start + step])
    whole.validate(tensor.levels.shape[-1])
    np.testing.assert_array_equal(whole.to_dense(), expected)


def test_streams_are_read_when_they_are_decoded_and_each_time():
    description, streams = BY_HAND["huffman"]
    read = []

    def stream(name, data):
        return Stream(len(data), lambda: read.append(name) or np.frombuffer(data, np.uint8))

    given = {name: stream(name, data) for name, data in streams.items()}
    found = encodings.decode(description, given, compiled=False)
    assert read == ["levels", "gain"]
    rows = found.rows(1)
    assert read == ["levels", "gain"]
    assert next(rows).indices.tolist() == [1]
    assert sorted(read[2:]) == ["code_table", "codes", "distance_table", "distances"]
    found.decode()
    assert len(read) == 2 + 4 + 4


def test_faults_of_later_rows_are_raised_after_the_rows_before():
    """Row 1 of the example would begin in column 0 and go on in column 0."""
    description, streams = BY_HAND["csr"]
    rows = decode(description, arrays({**streams, "indices": b"\x01"}), compiled=True).rows(1)
    assert next(rows).indices.tolist() == [1]
    with pytest.raises(InvalidModelError, match="is 0 and is followed by 0 in row 0"):
        next(rows)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("encoding", ["runlength", "huffman"])
def test_memory_is_that_of_one_group(encoding, compiled):
    """2**20 nonzeros in groups of 2**14: all positions alone would take 4 MiB."""
    skip_without_compiler(compiled)
    codes = np.random.default_rng(0).integers(1, 3, (1024, 1024)).astype(np.uint8)
    codes[:, ::2] = 0
    codes = np.concatenate([codes, codes])
    encoded = encode(level_weights(codes, [-1, 1]), encoding)
    weight = decode(encoded.description, encoded.streams, compiled=compiled)
    for _ in weight.rows(32):  # compile first
        pass
    tracemalloc.start()
    rows = sum(group.shape[0] for group in weight.rows(32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 2048
    assert peak < 16 * 2**14 + 2**21
