"""Model files: round trips, sources, how they are written, and damage by chance."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random

import h5py
import numpy as np
import pytest
from hypothesis import given

from deepchip.formats import model_file
from deepchip.formats.encodings import ENCODINGS
from deepchip.formats.errors import DeepChipError, InputError, InvalidModelError, UnsupportedError
from deepchip.formats.model_file import model_bytes, read_model, verify_model, write_model
from tests.formats.networks import (
    check_same_graph,
    every_graph,
    graphs,
    lenet5,
    put_together,
    residual,
    small,
    taken_apart,
    with_stream,
)


@given(graphs())
def test_round_trips(graph):
    for encoding in (*ENCODINGS, "auto"):
        data = model_bytes(graph, encoding)
        found = read_model(data)
        check_same_graph(found, graph)
        weight = found.nodes[-1].tensors["weight"]
        assert weight.encoding == encoding or encoding == "auto"


@pytest.mark.parametrize("graph", every_graph(), ids=lambda graph: graph.name)
def test_every_operator_and_both_decoders(graph):
    data = model_bytes(graph)
    check_same_graph(read_model(data), graph)
    check_same_graph(read_model(data, compiled=True), graph)


def test_a_residual_is_the_second_input():
    data = model_bytes(residual())
    check_same_graph(read_model(data), residual())
    index, _ = taken_apart(data)
    assert index["nodes"][2]["inputs"] == ["a", "b"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["a", "b", "b"], "layer 'conv': Conv has 3 inputs, expected 1 or 2"),
        (
            ["a", "a"],
            "layer 'conv': Conv adds a residual of shape (2, 6, 6), "
            "expected the shape of its output, (4, 6, 6)",
        ),
        (["a", "conv"], "layer 'conv': reads 'conv', which no layer before it gives"),
    ],
)
def test_residuals_that_do_not_fit_are_refused(inputs, message):
    index, streams = taken_apart(model_bytes(residual()))
    index["nodes"][2]["inputs"] = inputs
    with pytest.raises(InvalidModelError) as caught:
        read_model(put_together(index, streams))
    assert str(caught.value) == message


def test_lenet5_takes_little_more_than_its_entropy():
    """61 470 weights of H(0.37) + 0.37 = 1.32 bits (37 % nonzeros, either sign as often)."""
    data = model_bytes(lenet5())
    _, stored = taken_apart(data)
    gains_biases_and_levels = 4 * (2 * 236 + 5 * 2)
    streams = len(stored) - gains_biases_and_levels
    assert 1.0 < streams / (61_470 * 1.32 / 8) < 1.05
    assert len(data) < streams + gains_biases_and_levels + 3072


def test_an_unknown_encoding_is_refused():
    with pytest.raises(InputError, match="layer 'fc': encoding is 'zip'"):
        model_bytes(small(), "zip")


def test_sources(tmp_path):
    path = tmp_path / "net.dchip"
    write_model(small(), path)
    data = path.read_bytes()
    with open(path, "rb") as file:
        for source in (path, str(path), data, bytearray(data), memoryview(data), file):
            check_same_graph(read_model(source), small())
            assert verify_model(source)[1] == []
        assert not file.closed
    buffer = io.BytesIO(data)
    read_model(buffer)
    check_same_graph(read_model(buffer), small())  # it is read from its beginning again


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_model(tmp_path / "nothing")


def test_a_graph_that_contradicts_itself_is_not_written(tmp_path):
    path = tmp_path / "net.dchip"
    path.write_bytes(b"before")
    graph = small()
    graph.nodes[1].tensors["bias"][0] = np.nan
    with pytest.raises(InvalidModelError, match="layer 'fc': bias holds NaN"):
        write_model(graph, path)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["net.dchip"]


@pytest.mark.parametrize("name", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_what_was_there(tmp_path, monkeypatch, name, error):
    path = tmp_path / "net.dchip"
    path.write_bytes(b"before")

    def fail(*arguments):
        raise error

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(type(error)):
        write_model(small(), path)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["net.dchip"]


def test_what_the_disk_did_not_keep_does_not_replace_the_file(tmp_path, monkeypatch):
    path = tmp_path / "net.dchip"
    path.write_bytes(b"before")
    monkeypatch.setattr(model_file, "model_bytes", lambda *arguments: model_bytes(small())[:-1])
    with pytest.raises(InvalidModelError):
        write_model(small(), path)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["net.dchip"]


def test_bytes_that_the_disk_changed_do_not_replace_the_file(tmp_path, monkeypatch):
    """Also where only decoding would show it."""
    path = tmp_path / "net.dchip"
    path.write_bytes(b"before")
    data = model_bytes(small())
    at = data.index(taken_apart(data)[1]) + 16

    def damage(descriptor):
        os.pwrite(descriptor, b"\xff", at)

    monkeypatch.setattr(os, "fsync", damage)
    with pytest.raises(OSError, match="the disk gives back other bytes than were written"):
        write_model(small(), path)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["net.dchip"]


def test_a_missing_folder_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_model(small(), tmp_path / "nothing" / "net.dchip")


def test_older_releases_of_hdf5_read_the_layout():
    """HDF5 file format specification 3.0, II.A: superblock 3 came with HDF5 1.10, 4 with 2.0.

    The object headers that follow are of version 2, whose signature is OHDR (IV.A.1.b).
    """
    data = model_bytes(lenet5())
    assert data[:8] == b"\x89HDF\r\n\x1a\n"
    assert data[8] == 3
    assert data.count(b"OHDR\x02") == 3  # the root group, the index and the streams


def test_hdf5_itself_reads_the_file():
    data = model_bytes(small())
    with h5py.File(io.BytesIO(data)) as file:
        assert sorted(file) == ["index", "streams"]
        assert file.attrs["format"].tobytes() == b"deepchip"
        stored = file["index"][()].tobytes()
        assert file.attrs["index_sha256"].tobytes() == hashlib.sha256(stored).digest()


DAMAGED = [
    ("conv2", "weight", "gain"),
    ("conv2", "bias", "values"),
    ("fc2", "weight", "distances"),
    ("fc2", "weight", "codes"),
]


def is_refused(data: bytes) -> bool:
    """Whether `data` is an error of ours in one line; if it is not, it has to be `small()`."""
    try:
        graph = read_model(data)
        check_same_graph(graph, small())
    except DeepChipError as error:
        assert len(str(error).splitlines()) == 1
        return True
    return False


def test_every_truncation_is_refused():
    data = model_bytes(small())
    for size in range(len(data)):
        assert is_refused(data[:size]), size


@pytest.mark.parametrize("more", [b"\0", b"\xff" * 1000])
def test_bytes_after_the_end_are_refused(more):
    assert is_refused(model_bytes(small()) + more)


def test_every_flipped_bit_is_refused_or_changes_nothing():
    data = bytearray(model_bytes(small()))
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        is_refused(bytes(data))
        data[bit // 8] ^= 1 << bit % 8


def test_flipped_bits_of_a_larger_file():
    data = bytearray(model_bytes(lenet5()))
    for bit in random.Random(0).sample(range(8 * len(data)), 300):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DeepChipError) as caught:
            for node in read_model(bytes(data)).layers():
                list(node.tensors["weight"].rows(16))
        assert len(str(caught.value).splitlines()) == 1
        data[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("seed", range(20))
def test_overwritten_blocks_are_refused_or_change_nothing(seed):
    numbers = random.Random(seed)
    data = model_bytes(small())
    start, size = numbers.randrange(len(data)), numbers.randrange(1, 200)
    block = numbers.randbytes(size)
    is_refused((data[:start] + block + data[start + size :])[: len(data)])


def test_another_version_is_not_read_and_the_remedy_is_named():
    data = put_together(
        *taken_apart(model_bytes(small())), lambda file: file.attrs.modify("version", np.uint32(2))
    )
    expected = "format version 2; this release reads 1. Upgrade deepchip, or convert again"
    with pytest.raises(UnsupportedError) as caught:
        read_model(data)
    assert str(caught.value) == expected
    assert verify_model(data) == (None, [expected])


@pytest.mark.parametrize("data", [b"", b"\n", b"a text file\n" * 100, b"\x89HDF\r\n\x1a"])
def test_other_files(data):
    with pytest.raises(
        InvalidModelError, match="no HDF5 file, as model files are; get the file again"
    ):
        read_model(data)


def test_another_hdf5_file():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["index"] = np.zeros(3, np.uint8)
    with pytest.raises(InvalidModelError, match="an HDF5 file, but no DeepChip model"):
        read_model(buffer)


@pytest.mark.parametrize("graph", every_graph(), ids=lambda graph: graph.name)
def test_verify_gives_the_graph_of_a_whole_file(graph):
    found, faults = verify_model(model_bytes(graph))
    assert faults == []
    check_same_graph(found, graph)


def test_verify_names_each_stream_that_is_damaged():
    index, stored = taken_apart(model_bytes(lenet5()))
    streams = bytearray(stored)
    start = 0
    for node in index["nodes"]:
        for tensor, description in node["tensors"].items():
            for name, size, _ in description["streams"]:
                if (node["name"], tensor, name) in DAMAGED:
                    streams[start + size // 2] ^= 1
                start += size
    assert verify_model(put_together(index, bytes(streams))) == (
        None,
        [
            f"layer {layer!r}: {tensor}: stream {name!r} does not match its SHA-256; "
            "get the file again"
            for layer, tensor, name in DAMAGED
        ],
    )


def test_verify_names_each_layer_whose_streams_decode_to_nothing_valid():
    """Their digests are right, so that only decoding shows it."""
    data = model_bytes(lenet5(), "runlength")
    for layer in ("conv2", "fc2"):
        index, _ = taken_apart(data)
        node = next(node for node in index["nodes"] if node["name"] == layer)
        (size,) = (s[1] for s in node["tensors"]["weight"]["streams"] if s[0] == "distances")
        data = with_stream(data, layer, "weight", "distances", bytes(size))  # no padding is set
    read_model(data)  # decodes later
    graph, faults = verify_model(data)
    assert graph is None
    assert [fault.split(":")[0] for fault in faults] == ["layer 'conv2'", "layer 'fc2'"]
