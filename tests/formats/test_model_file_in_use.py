"""Model files under a loaded graph: replaced, cut off, damaged, read by several threads."""

from __future__ import annotations

import gc
import os
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from deepchip.converter.builder import Builder
from deepchip.formats.errors import InvalidModelError
from deepchip.formats.model_file import model_bytes, read_model, verify_model, write_model
from tests.formats.networks import (
    check_same_graph,
    lenet5,
    level_weights,
    small,
    taken_apart,
)


def levels_of(graph):
    return next(node.tensors["weight"] for node in graph.layers())


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be replaced on Windows")
def test_weights_outlive_a_file_that_is_replaced_or_deleted(tmp_path):
    path = tmp_path / "net.dchip"
    write_model(small(), path)
    first = read_model(path)
    write_model(lenet5(), path)
    second = read_model(path)
    path.unlink()
    check_same_graph(first, small())
    check_same_graph(second, lenet5())
    check_same_graph(read_model(model_bytes(first)), small())


def test_a_file_that_is_cut_off_while_it_is_in_use(tmp_path):
    path = tmp_path / "net.dchip"
    write_model(small(), path)
    weight = levels_of(read_model(path))
    os.truncate(path, 100)
    with pytest.raises(InvalidModelError, match="too early: it was cut off while it was in use"):
        weight.decode()


def test_digests_are_compared_each_time_that_a_layer_is_decoded(tmp_path):
    path = tmp_path / "net.dchip"
    write_model(small(), path)
    weight = levels_of(read_model(path))
    weight.decode()
    _, streams = taken_apart(path.read_bytes())
    with open(path, "r+b") as file:
        file.seek(path.read_bytes().index(streams) + 16)  # after two levels and two gains
        file.write(b"\xff")
    with pytest.raises(InvalidModelError) as caught:
        weight.decode()
    expected = "stream 'distances' does not match its SHA-256; get the file again"
    assert str(caught.value) == expected
    assert verify_model(path) == (None, [f"layer 'fc': weight: {expected}"])
    with pytest.raises(InvalidModelError, match="layer 'fc': stream 'distances' does not match"):
        model_bytes(read_model(path))


def test_threads_decode_at_once(tmp_path):
    path = tmp_path / "net.dchip"
    write_model(lenet5(), path)
    graph = read_model(path, compiled=True)
    expected = [node.tensors["weight"].decode().to_dense() for node in lenet5().layers()]

    def decoded(_):
        weights = [node.tensors["weight"] for node in graph.layers()]
        groups = [[group.to_dense() for group in weight.rows(7)] for weight in weights]
        return [np.concatenate(found) for found in groups]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(decoded, range(20)):
            for codes, wanted in zip(found, expected, strict=True):
                np.testing.assert_array_equal(codes, wanted, strict=True)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted in /proc")
def test_a_file_is_open_as_long_as_its_weights_are_there(tmp_path):
    path = tmp_path / "net.dchip"
    write_model(small(), path)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    graph = read_model(path)
    weight = levels_of(graph)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del graph
    weight.decode()
    del weight
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("of_path", [False, True])
def test_streams_are_not_kept(tmp_path, of_path):
    """Neither those of a path nor a second copy of those in bytes; 2**20 codes take 128 KiB."""
    codes = np.random.default_rng(0).integers(1, 3, (1024, 1024))
    builder = Builder("large")
    x = builder.input("x", (1024,))
    weight = level_weights(codes, [-1, 1])
    y = builder.add("FullyConnected", [x], "fc", {}, {"weight": weight})
    data = model_bytes(builder.finish([y]), "runlength")
    (tmp_path / "net.dchip").write_bytes(data)
    source = tmp_path / "net.dchip" if of_path else data
    read_model(source)  # what h5py keeps for ever
    tracemalloc.start()
    weight = levels_of(read_model(source))
    before, _ = tracemalloc.get_traced_memory()
    assert sum(group.shape[0] for group in weight.rows(16)) == 1024
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert weight.stored > 2**17
    assert max(before, after) < 2**16
