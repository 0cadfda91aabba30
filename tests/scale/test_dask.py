"""Models on Dask arrays: the same bits, one load a process, and a worker that is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from PIL import Image

from tests.checks import patient

dask = pytest.importorskip("dask", reason="needs the extra deepchip[dask]")
distributed = pytest.importorskip("distributed", reason="needs the extra deepchip[dask]")

import dask.array as da  # noqa: E402

import deepchip.dask  # noqa: E402
from deepchip.formats.errors import InputError, InvalidModelError  # noqa: E402
from deepchip.formats.model_file import model_bytes  # noqa: E402
from deepchip.runtime.images import Pixels  # noqa: E402
from deepchip.runtime.model import Model  # noqa: E402

from .networks import classifier, relu, two_sides  # noqa: E402

F32 = np.float32


def numbers(count=100):
    return np.random.default_rng(1).standard_normal((count, 3, 8, 8), F32)


def check_same(found, expected):
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("chunks", [100, 7, ((1, 0, 99), 3, 8, 8), (30, 2, 8, 3)])
@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_the_same_bits_in_any_chunks(chunks, scheduler):
    x = numbers()
    array = da.from_array(x, chunks=chunks)
    found = deepchip.dask.score(model_bytes(classifier()), array)
    assert (found.shape, found.dtype) == ((100, 5), F32)
    assert found.chunks == (array.chunks[0], (5,))
    assert type(found._meta) is np.ndarray
    check_same(found.compute(scheduler=scheduler), Model(classifier())(x))


def test_a_model_a_path_or_bytes(tmp_path):
    x = numbers(20)
    data = model_bytes(classifier())
    (tmp_path / "net.dchip").write_bytes(data)
    model = Model(classifier(), backend="numpy")
    array = da.from_array(x, chunks=6)
    for given in (model, data, tmp_path / "net.dchip", str(tmp_path / "net.dchip")):
        check_same(deepchip.dask.score(given, array, backend="numpy").compute(), model(x))


def test_several_inputs_and_outputs_in_one_call_a_block(monkeypatch):
    left = np.arange(30, dtype=F32).reshape(10, 3)
    right = np.full((10, 3), -14, F32)
    arrays = {"right": da.from_array(right, chunks=4), "left": da.from_array(left, chunks=3)}
    outputs = deepchip.dask.run(model_bytes(two_sides()), arrays, backend="numpy")
    assert list(outputs) == ["sum", "positive"]
    calls = []
    call = Model.run
    monkeypatch.setattr(Model, "run", lambda *given: calls.append(1) or call(*given))
    (found,) = dask.compute(outputs, scheduler="synchronous")
    np.testing.assert_array_equal(found["sum"], left - 14)
    np.testing.assert_array_equal(found["positive"], np.maximum(left - 14, 0))
    assert len(calls) == len(outputs["sum"].chunks[0])


def test_numbers_of_rows_that_are_not_known():
    x = da.from_array(numbers(), chunks=(9, 3, 8, 8))
    positive = x[x.sum(axis=(1, 2, 3)) > 0]
    found = deepchip.dask.score(model_bytes(classifier()), positive, backend="numpy").compute()
    check_same(found, Model(classifier(), backend="numpy")(positive.compute()))


def test_what_does_not_fit_is_found_before_anything_is_computed():
    data = model_bytes(classifier())
    for array in (
        da.zeros((4, 3, 8, 9), dtype=F32),
        da.zeros((4, 3, 8, 8), dtype=int),
        da.zeros(()),
    ):
        with pytest.raises(InputError, match=r"expected float32 \('N', 3, 8, 8\)"):
            deepchip.dask.score(data, array)
    sides = model_bytes(two_sides())
    with pytest.raises(InputError, match="call run"):
        deepchip.dask.score(sides, da.zeros((4, 3), dtype=F32))
    with pytest.raises(InputError, match=r"expected \['left', 'right'\]"):
        deepchip.dask.run(sides, {"left": da.zeros((4, 3), dtype=F32)})
    with pytest.raises(InvalidModelError):
        deepchip.dask.score(data[:-10], da.zeros((4, 3, 8, 8), dtype=F32))
    for options in ({"backend": "fast"}, {"threads": 0}):
        with pytest.raises(InputError, match=r"(backend|threads) is"):
            deepchip.dask.score(data, da.zeros((4, 3, 8, 8), dtype=F32), **options)


def test_the_model_is_in_the_graph_once():
    data = model_bytes(classifier())
    found = deepchip.dask.score(data, da.zeros((30, 3, 8, 8), dtype=F32, chunks=(1, 3, 8, 8)))
    for collection in (found, *dask.optimize(found)):
        tasks = map(cloudpickle.dumps, dict(collection.__dask_graph__()).values())
        assert sum(task.count(data) for task in tasks) == 1


def test_threads_that_start_together_load_a_model_once(monkeypatch):
    array = da.from_array(numbers(), chunks=(5, 3, 8, 8))
    found = deepchip.dask.score(model_bytes(classifier()), array, backend="numpy")
    deepchip.dask._models.clear()  # as in a process that was sent the task
    loads = []
    load = deepchip.dask.load

    def slow(*given, **options):
        loads.append(threading.get_ident())
        time.sleep(0.2)
        return load(*given, **options)

    monkeypatch.setattr(deepchip.dask, "load", slow)
    found.compute(scheduler="threads", num_workers=8)
    assert len(loads) == 1
    for size in range(1, 9):  # others push it out: what a process keeps is bounded
        zeros = da.zeros((1, size), dtype=F32)
        deepchip.dask.score(model_bytes(relu(size)), zeros, backend="numpy").compute()
    assert len(deepchip.dask._models) == deepchip.dask.KEPT
    found.compute(scheduler="threads")
    assert len(loads) == 1 + 8 + 1


def test_images_of_a_folder(tmp_path):
    for index in range(10):
        Image.new("RGB", (4, 4), (25 * index, 0, 255)).save(tmp_path / f"{index}.png")
    array, names = deepchip.dask.images(tmp_path, (3, 2, 2), batch=4)
    assert names == [f"{index}.png" for index in range(10)]
    assert (array.chunks[0], array.dtype) == ((4, 4, 2), F32)
    expected = np.stack([Pixels((3, 2, 2)).read(tmp_path, name) for name in names])
    np.testing.assert_array_equal(array.compute(), expected)
    (tmp_path / "5.png").write_text("no image")
    with pytest.raises(InputError, match=r"5\.png: no image"):
        array.compute(scheduler="threads")


# A cluster of two processes.


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def count_loads():
    """Make a worker write down every load of a model."""
    load = deepchip.dask.load
    deepchip.dask.loads = 0

    def counted(*given, **options):
        deepchip.dask.loads += 1
        return load(*given, **options)

    deepchip.dask.load = counted


def test_a_cluster_loads_a_model_once_a_worker(client):
    x = numbers()
    client.run(count_loads)
    array = da.from_array(x, chunks=(2, 3, 8, 8))
    for _ in range(2):
        found = deepchip.dask.score(model_bytes(classifier()), array, backend="numpy").compute()
        check_same(found, Model(classifier(), backend="numpy")(x))
    assert sum(client.run(lambda: deepchip.dask.loads).values()) <= 2


def slowly(block, folder, block_info=None):
    """Take a while, and leave a mark: which block was handed out, by which process."""
    time.sleep(0.05)
    number = block_info[0]["chunk-location"][0]
    Path(folder, f"{number}-{os.getpid()}").touch()
    return block


def test_a_worker_that_is_killed(client, tmp_path):
    """SIGKILL half-way: its blocks are computed again, none is lost, doubled or different."""
    x = numbers(200)
    source = da.from_array(x, chunks=(2, 3, 8, 8)).map_blocks(slowly, str(tmp_path), dtype=F32)
    future = client.compute(deepchip.dask.score(model_bytes(classifier()), source, backend="numpy"))
    pids = client.run(os.getpid)
    victim = next(iter(pids.values()))

    def done_by_victim():
        return sum(path.name.endswith(f"-{victim}") for path in tmp_path.iterdir())

    end = time.monotonic() + 60
    while done_by_victim() < 20:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert not future.done()
    os.kill(victim, signal.SIGKILL)
    check_same(future.result(timeout=patient(120)), Model(classifier(), backend="numpy")(x))
    blocks = [int(path.name.split("-")[0]) for path in tmp_path.iterdir()]
    assert set(blocks) == set(range(100))
    assert len(blocks) > 100  # what the killed worker held was computed again
