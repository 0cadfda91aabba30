"""What an application calls: ports, which arrays are taken, and how others are refused."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest

import deepchip
from deepchip.converter.builder import Builder
from deepchip.formats.errors import InputError
from deepchip.formats.graph import Quantization
from deepchip.formats.model_file import model_bytes
from deepchip.runtime.model import Model, Port

from .one_node import BACKENDS, check_same_bits, one_node, weights_of


def scorer(backend="numpy", **options):
    """Codes 0 to 15 of items (2, 3), and what each of two classes makes of them."""
    return Model(scorer_graph(), backend=backend, **options)


def scorer_graph():
    builder = Builder("scorer")
    image = builder.input("image", (2, 3))
    flat = builder.add("Reshape", [image], "flat", {"shape": (6,)})
    codes = builder.add("Quantize", [flat], "codes", quantization=Quantization(0.5, 4, 4))
    tensors = {
        "weight": weights_of([[1, 0, 2, 0, 0, 2], [0, 0, 1, 1, 2, 0]], [-0.75, 1.5]),
        "bias": np.array([0.25, -2], np.float32),
    }
    return builder.finish([builder.add("FullyConnected", [codes], "scores", {}, tensors)])


X = np.array([[[0, 0.5, 1], [1.5, -2, 5.5]], [[-1, 2, 3], [0, 0.5, 1]]], np.float32)
# -0.75 * x[0] + 1.5 * (x[2] + x[5]) + 0.25 and -0.75 * (x[2] + x[3]) + 1.5 * x[4] - 2
SCORES = np.array([[1.5 * 6.5 + 0.25, -0.75 * 2.5 - 3 - 2], [0.75 + 6 + 0.25, -2.25 + 0.75 - 2]])


@pytest.fixture(params=BACKENDS)
def model(request):
    return scorer(request.param)


def test_ports():
    model = scorer()
    assert model.inputs == (Port("image", (None, 2, 3), np.dtype(np.float32)),)
    assert model.outputs == (Port("scores", (None, 2), np.dtype(np.float32)),)


def test_call(model):
    check_same_bits(model(X), SCORES.astype(np.float32))
    check_same_bits(model.run({"image": X})["scores"], SCORES.astype(np.float32))
    check_same_bits(model(X[:0]), np.zeros((0, 2), np.float32))


def in_a_gap(x):
    spaced = np.zeros((4, 2, 6), np.float32)
    spaced[::2, :, ::2] = x
    return spaced[::2, :, ::2]


def unaligned(x):
    buffer = np.zeros(x.nbytes + 1, np.uint8)
    view = buffer[1:].view(np.float32).reshape(x.shape)
    view[:] = x
    return view


def read_only(x):
    x = x.copy()
    x.setflags(write=False)
    return x


@pytest.mark.parametrize(
    "form",
    [
        in_a_gap, unaligned, read_only, np.asfortranarray, list, np.ndarray.tolist,
        lambda x: x.astype(np.float64), lambda x: x.astype(np.float16),
        lambda x: x.astype(np.longdouble), lambda x: x.astype(">f4"), lambda x: x.astype("<f8"),
        lambda x: x[::-1].copy()[::-1], lambda x: np.ma.masked_array(x),
        lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    ],
)  # fmt: skip
def test_arrays_of_every_layout_are_taken(model, form):
    given = form(X)
    before = np.array(given)
    check_same_bits(model(given), SCORES.astype(np.float32))
    np.testing.assert_array_equal(np.array(given), before)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_memory_mapped_arrays_are_taken(model, mode, tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
    found = model(mapped)
    assert type(found) is np.ndarray
    check_same_bits(found, SCORES.astype(np.float32))
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), X)


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((2, 3), r"add a batch axis, x\[None\]"),
        ((1, 3, 2), "N is the batch"),
        ((1, 6), "N is the batch"),
        ((1, 1, 2, 3), "N is the batch"),
        ((0,), "N is the batch"),
        ((), "N is the batch"),
    ],
)
def test_another_shape_is_refused(shape, hint):
    with pytest.raises(InputError, match=hint) as error:
        scorer()(np.zeros(shape, np.float32))
    assert f"input 'image' has shape {shape}, expected (N, 2, 3)" in str(error.value)
    assert "\n" not in str(error.value)


def test_items_without_dimensions():
    """A number for each item, which a scalar is not."""
    model = Model(one_node("Relu", [()]), backend="numpy")
    assert model(np.array([-1.0, 2.0])).tolist() == [0, 2]
    with pytest.raises(InputError, match=r"has shape \(\), expected \(N\): add a batch axis"):
        model(np.float32(1))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool, complex, object, "datetime64[s]"])
def test_another_dtype_is_refused(dtype):
    with pytest.raises(InputError, match=r"input 'image' has dtype .*, expected float32") as error:
        scorer()(np.zeros((1, 2, 3), dtype))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("names", [[], ["x"], ["image", "mask"]])
def test_other_names_are_refused(names):
    with pytest.raises(InputError, match=r"were given, expected \['image'\]") as error:
        scorer().run(dict.fromkeys(names, X))
    assert str(sorted(names)) in str(error.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_inputs_and_outputs(backend):
    builder = Builder("two")
    a, b = builder.input("a", (2,)), builder.input("b", (1,))
    graph = builder.finish(
        [builder.add("Mul", [a, b], "product"), builder.add("Relu", [a], "r"), b]
    )
    model = Model(graph, backend=backend)
    assert [port.name for port in model.inputs] == ["a", "b"]
    assert [port.shape for port in model.outputs] == [(None, 2), (None, 2), (None, 1)]
    inputs = {"b": np.array([[2.0], [3.0]]), "a": np.array([[1.0, -1.0], [0.5, -2.0]])}
    outputs = model.run(inputs)
    assert {name: array.tolist() for name, array in outputs.items()} == {
        "product": [[2, -2], [1.5, -6]],
        "r": [[1, 0], [0.5, 0]],
        "b": [[2], [3]],
    }
    with pytest.raises(InputError, match=r"inputs \('a', 'b'\).*call run\(\)"):
        model(inputs["a"])
    with pytest.raises(InputError, match=r"inputs \['a'\] were given, expected \['a', 'b'\]"):
        model.run({"a": inputs["a"]})
    with pytest.raises(InputError, match=r"batches of \[1, 2\] items, expected one size"):
        model.run({**inputs, "b": inputs["b"][:1]})


def test_outputs_are_the_callers_own(model):
    first = model(X)
    kept = first.copy()
    first[:] = 0
    check_same_bits(model(X), kept)


@pytest.mark.parametrize("threads", [0, -1, 257, 1.0, "2", None])
def test_threads_out_of_range(threads):
    with pytest.raises(InputError, match=r"threads is .*, expected an integer from 1 to 256"):
        scorer(threads=threads)


def test_an_unknown_backend():
    with pytest.raises(InputError, match=r"backend is 'torch', expected one of numba, numpy$"):
        scorer("torch")
    with pytest.raises(ValueError, match="backend is 'torch'"):
        deepchip.load(model_bytes(scorer_graph()), backend="torch")


@pytest.mark.parametrize("backend", BACKENDS)
def test_load(backend, tmp_path):
    data = model_bytes(scorer_graph())
    path = tmp_path / "net.dchip"
    path.write_bytes(data)
    for source in (data, path, str(path), io.BytesIO(data)):
        model = deepchip.load(source, backend=backend, threads=2)
        check_same_bits(model(X), SCORES.astype(np.float32))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickling(protocol):
    before = scorer("numba", threads=3)
    after = pickle.loads(pickle.dumps(before, protocol))
    assert (after.backend, after.threads) == ("numba", 3)
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    check_same_bits(after(X), SCORES.astype(np.float32))
