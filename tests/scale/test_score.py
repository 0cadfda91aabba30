"""Scoring of arrays: the same bits as one call, whatever holds them, and no half file."""

from __future__ import annotations

import threading
import zipfile

import h5py
import numpy as np
import pytest

import deepchip
from deepchip.formats.errors import InputError
from deepchip.runtime.model import Model

from .networks import classifier, floats, relu, two_sides

F32 = np.float32


@pytest.fixture(autouse=True)
def small_slices(monkeypatch):
    """Slices of a few items, so that small arrays take many batches."""
    monkeypatch.setattr("deepchip.runtime.plan.SLICE_BYTES", 2**15)
    monkeypatch.setattr("deepchip.runtime.program.Program.SLICE_BYTES", 2**15)


def numbers(count=333, shape=(3, 8, 8)):
    return np.random.default_rng(1).standard_normal((count, *shape), F32)


def check_same(path, expected):
    """The same shape, dtype and bits, NaN as well."""
    found = np.load(path)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert found.tobytes() == expected.tobytes()


def nothing_else(folder, *names):
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("batch", [None, 1, 7, 64, 1000])
@pytest.mark.parametrize(("backend", "threads"), [("numba", 1), ("numba", 2), ("numpy", 1)])
def test_the_same_bits_as_one_call(tmp_path, backend, threads, batch):
    model = Model(classifier(), backend=backend, threads=threads)
    x = numbers()
    np.save(tmp_path / "x.npy", x)
    found = deepchip.score(model, tmp_path / "x.npy", tmp_path / "y.npy", batch=batch)
    assert (found.count, found.skipped) == (333, ())
    check_same(tmp_path / "y.npy", model(x))


def test_the_same_bits_where_their_order_is_in_the_hands_of_blas(tmp_path):
    model = Model(floats(), backend="numpy")
    x = numbers(1000, (300,))
    assert 1 < model.plan.slice < 100
    deepchip.score(model, x, tmp_path / "y.npy", batch=2)
    check_same(tmp_path / "y.npy", model(x))


def from_archive(folder, x):
    np.savez(folder / "x.npz", whatever=x)
    return folder / "x.npz"


def from_compressed(folder, x):
    np.savez_compressed(folder / "x.npz", x=x)
    return str(folder / "x.npz")


def from_columns(folder, x):
    np.save(folder / "x.npy", np.asfortranarray(x))
    return folder / "x.npy"


def from_other_order(folder, x):
    np.save(folder / "x.npy", x.astype(">f4"))
    return folder / "x.npy"


def from_doubles(folder, x):
    np.save(folder / "x.npy", x.astype(np.float64))
    return folder / "x.npy"


def from_map(folder, x):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


def from_hdf5(folder, x):
    file = h5py.File(folder / "x.h5", "w")
    return file.create_dataset("x", data=x, chunks=(10, 3, 8, 8))


@pytest.mark.parametrize(
    "source",
    [from_archive, from_compressed, from_columns, from_other_order, from_doubles, from_map,
     from_hdf5, lambda folder, x: x[::-1][::-1], lambda folder, x: {"x": x}],
)  # fmt: skip
def test_whatever_holds_the_rows(tmp_path, source):
    model = Model(classifier(), backend="numpy")
    x = numbers(100)
    deepchip.score(model, source(tmp_path, x), tmp_path / "y.npy", batch=9)
    check_same(tmp_path / "y.npy", model(x))


def test_several_inputs_and_outputs(tmp_path):
    """Sums of small integers: exact."""
    left = np.arange(300, dtype=F32).reshape(100, 3)
    right = np.full((100, 3), -150, F32)
    np.savez(tmp_path / "x.npz", left=left, right=right)
    model = Model(two_sides(), backend="numpy")
    deepchip.score(model, tmp_path / "x.npz", tmp_path / "y.npz", batch=1)
    with np.load(tmp_path / "y.npz") as found:
        assert sorted(found.files) == ["positive", "sum"]
        np.testing.assert_array_equal(found["sum"], left - 150)
        np.testing.assert_array_equal(found["positive"], np.maximum(left - 150, 0))
    with pytest.raises(InputError, match="2 outputs are written"):
        deepchip.score(model, tmp_path / "x.npz", tmp_path / "y.npy")
    with pytest.raises(InputError, match="rows, expected one number"):
        deepchip.score(model, {"left": left, "right": right[1:]}, tmp_path / "y.npz")
    nothing_else(tmp_path, "x.npz", "y.npz")


@pytest.mark.parametrize("name", ["y.npy", "y.npz"])
def test_no_rows_give_no_rows(tmp_path, name):
    model = Model(relu(4), backend="numpy")
    deepchip.score(model, np.zeros((0, 4), F32), tmp_path / name)
    found = np.load(tmp_path / name)
    found = found if name == "y.npy" else found["y"]
    assert (found.shape, found.dtype) == ((0, 4), F32)


def test_a_table_of_classes(tmp_path):
    """Two rows by hand: among equals the lower class comes first, NaN last."""
    model = Model(relu(4), backend="numpy")
    x = F32([[0.5, 3, 0.1, 3], [7, np.nan, 1e-9, 0]])
    deepchip.score(model, x, tmp_path / "y.csv", top=3)
    assert (tmp_path / "y.csv").read_text().splitlines() == [
        "row,rank,class,score",
        *("0,1,1,3.0", "0,2,3,3.0", "0,3,0,0.5"),
        *("1,1,0,7.0", "1,2,2,1e-09", "1,3,3,0.0"),
    ]
    deepchip.score(model, x, tmp_path / "y.csv", batch=1)
    assert (tmp_path / "y.csv").read_text() == "row,rank,class,score\n0,1,1,3.0\n1,1,0,7.0\n"


@pytest.mark.parametrize(
    ("target", "options", "text"),
    [
        ("y.txt", {}, "y.txt: results are written to"),
        ("y.csv", {"top": 5}, "expected 1 to 4"),
        ("y.csv", {"top": 0}, "expected 1 to 4"),
        ("y.npy", {"top": 1}, "y.npy: the 1 highest"),
        ("y.npy", {"batch": 0}, "batch is 0"),
    ],
)
def test_what_does_not_fit(tmp_path, target, options, text):
    model = Model(relu(4), backend="numpy")
    with pytest.raises(InputError, match=text):
        deepchip.score(model, np.zeros((2, 4), F32), tmp_path / target, **options)
    nothing_else(tmp_path)


def test_a_folder_in_the_place_of_the_target_is_found_before_the_work(tmp_path):
    (tmp_path / "y.npy").mkdir()
    model = Model(relu(4), backend="numpy")
    model.run = pytest.fail
    with pytest.raises(IsADirectoryError):
        deepchip.score(model, np.zeros((2, 4), F32), tmp_path / "y.npy")
    with pytest.raises(FileNotFoundError):
        deepchip.score(model, np.zeros((2, 4), F32), tmp_path / "none" / "y.npz")


def cut(data):
    return data[:-5]


def longer(data):
    return data + b"more"


def huge(data):
    """Declare 333 times 10**9 rows."""
    return data.replace(b"(333, ", b"(333000000000, ").replace(b" " * 12, b"", 1)


def flipped(data):
    return data[:-2000] + bytes([data[-2000] ^ 1]) + data[-1999:]


@pytest.mark.parametrize(
    ("save", "damage"),
    [
        *((np.save, cut), (np.save, longer), (np.save, huge)),
        *((np.savez, cut), (np.savez, flipped), (np.savez_compressed, flipped)),
    ],
)
@pytest.mark.parametrize("target", ["y.npy", "y.npz", "y.csv"])
def test_a_damaged_source_leaves_the_target(tmp_path, save, damage, target):
    model = Model(classifier(), backend="numpy")
    with open(tmp_path / "x", "wb") as file:
        save(file, numbers())
    (tmp_path / "x").write_bytes(damage((tmp_path / "x").read_bytes()))
    (tmp_path / target).write_text("older")
    with pytest.raises(InputError, match=r"^x: ") as caught:
        deepchip.score(model, tmp_path / "x", tmp_path / target, batch=10)
    assert "\n" not in str(caught.value)
    assert (tmp_path / target).read_text() == "older"
    nothing_else(tmp_path, "x", target)


def test_a_file_that_is_cut_while_it_is_read(tmp_path):
    """A mapped file would end the process with a bus error."""
    model = Model(classifier(), backend="numpy")
    np.save(tmp_path / "x.npy", numbers(20_000))

    def progress(done, count):
        with open(tmp_path / "x.npy", "r+b") as file:
            file.truncate(10_000)

    with pytest.raises(InputError, match=r"x.npy: .*it ends in rows"):
        deepchip.score(model, tmp_path / "x.npy", tmp_path / "y.npy", batch=1, progress=progress)
    nothing_else(tmp_path, "x.npy")


def test_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
    model = Model(relu(1), backend="numpy")
    with pytest.raises(InputError, match=r"x.npy: .*object"):
        deepchip.score(model, tmp_path / "x.npy", tmp_path / "y.npy")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("target", ["y.npy", "y.npz", "y.csv"])
def test_interrupted(tmp_path, error, target):
    """Half-way: what the target was stays, nothing is left beside it, and no thread either."""
    model = Model(classifier(), backend="numpy")
    (tmp_path / target).write_text("older")
    before = threading.active_count()

    def progress(done, count):
        if done > count / 2:
            raise error

    options = {"batch": 1, "progress": progress}
    with pytest.raises((KeyboardInterrupt, OSError)):
        deepchip.score(model, numbers(20_000), tmp_path / target, **options)
    assert (tmp_path / target).read_text() == "older"
    nothing_else(tmp_path, target)
    assert threading.active_count() == before


def test_progress(tmp_path):
    model = Model(classifier(), backend="numpy")
    calls = []
    x = numbers(model.plan.slice * 2 + 1)
    progress = lambda *numbers: calls.append(numbers)  # noqa: E731
    deepchip.score(model, x, tmp_path / "y.npy", batch=1, progress=progress)
    size = model.plan.slice
    assert calls == [(size, len(x)), (2 * size, len(x)), (len(x), len(x))]


class Watched:
    """An array that says when its second batch is asked for."""

    def __init__(self, array):
        self.array = array
        self.shape = array.shape
        self.second = threading.Event()

    def __getitem__(self, rows):
        if rows.start > 0:
            self.second.set()
        return self.array[rows]


def test_the_next_batch_is_read_while_the_model_runs(tmp_path, monkeypatch):
    model = Model(classifier(), backend="numpy")
    source = Watched(numbers(model.plan.slice * 2))
    compute = model.run
    seen = []

    def run(inputs):
        seen.append(source.second.wait(30))
        return compute(inputs)

    monkeypatch.setattr(model, "run", run)
    deepchip.score(model, source, tmp_path / "y.npy", batch=1)
    assert seen == [True, True]


def test_names_of_outputs_are_no_paths(tmp_path):
    """An output may be called anything; in an archive it is the name of an array."""
    graph = relu(2)
    model = Model(graph, backend="numpy")
    deepchip.score(model, np.ones((1, 2), F32), tmp_path / "y.npz")
    with zipfile.ZipFile(tmp_path / "y.npz") as archive:
        assert archive.namelist() == ["y.npy"]
        assert archive.testzip() is None
