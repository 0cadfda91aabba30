"""Arrays as applications have them: as a contiguous float32 copy, or refused by name."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from deepchip.converter.builder import Builder
from deepchip.formats.errors import InputError
from deepchip.formats.graph import Quantization
from deepchip.runtime.inputs import check_inputs
from deepchip.runtime.model import Model
from tests.runtime.one_node import BACKENDS, check_same_bits, weights_of

X = np.random.default_rng(1).standard_normal((5, 3, 4), np.float32)


def network(read_in_place):
    """A layer of levels over codes; its input is read where it is, or copied into the arena."""
    net = Builder("net")
    x = net.input("x", (3, 4))
    if not read_in_place:
        x = net.add("Pad", [x], "pad", {"pads": (0, 0, 1, 0), "value": 0.0})
    codes = net.add("Quantize", [x], "codes", quantization=Quantization(0.25, 8, 4))
    size = 12 if read_in_place else 16
    flat = net.add(
        "Reshape", [codes], "flat", {"shape": (size,)}, quantization=Quantization(0.25, 8, 4)
    )
    weight = weights_of(np.random.default_rng(2).integers(0, 3, (2, size)), [-1, 0.5])
    return net.finish([net.add("FullyConnected", [flat], "y", tensors={"weight": weight})])


@pytest.fixture(scope="module", params=BACKENDS)
def models(request):
    return [Model(network(in_place), backend=request.param) for in_place in (True, False)]


class Subclass(np.ndarray):
    """As of an application."""


class Interface:
    def __array__(self, dtype=None, copy=None):
        return X.astype(np.float64)


def unaligned(x):
    memory = np.zeros(x.nbytes + 1, np.uint8)
    array = memory[1:].view(x.dtype).reshape(x.shape)
    array[:] = x
    assert not array.flags.aligned
    return array


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


SAME = {
    "contiguous": lambda x: x,
    "Fortran-ordered": np.asfortranarray,
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "strided": lambda x: np.repeat(x, 2, axis=2)[..., ::2],
    "backwards": lambda x: x[::-1, :, ::-1].copy()[::-1, :, ::-1],
    "read-only": read_only,
    "unaligned": unaligned,
    "big-endian": lambda x: x.astype(">f4"),
    "float64": lambda x: x.astype(np.float64),
    "big-endian float64": lambda x: x.astype(">f8"),
    "long double": lambda x: x.astype(np.longdouble),
    "a subclass": lambda x: x.view(Subclass),
    "masked, but nothing is": lambda x: np.ma.masked_array(x, np.zeros(x.shape, bool)),
    "lists": lambda x: x.tolist(),
    "a list of arrays": list,
    "an object with __array__": lambda x: Interface(),
}


@pytest.mark.parametrize("kind", SAME)
def test_as_a_plain_copy(kind, models):
    for model in models:
        expected = model(X.copy())
        given = SAME[kind](X)
        check_same_bits(model(given), expected)


@pytest.mark.parametrize("kind", SAME)
def test_what_plans_are_given(kind):
    """Kernels read it by its address."""
    found = check_inputs(network(True), {"x": SAME[kind](X)})["x"]
    assert type(found) is np.ndarray
    assert (found.dtype, found.dtype.isnative, found.shape) == (np.float32, True, X.shape)
    assert found.flags.c_contiguous
    assert found.flags.aligned


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_memory_mapped(mode, models, tmp_path):
    np.save(tmp_path / "x.npy", X)
    for model in models:
        mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
        check_same_bits(model(mapped), model(X.copy()))
        check_same_bits(model(mapped[1:3]), model(X[1:3].copy()))


def test_half_precision(models):
    for model in models:
        check_same_bits(model(X.astype(np.float16)), model(X.astype(np.float16).astype(np.float32)))


def test_broadcast(models):
    for model in models:
        same = np.broadcast_to(X[0], (4, 3, 4))
        check_same_bits(model(same), model(same.copy()))


def test_rounding_to_float32_and_to_zero(models):
    """As a cast: to nearest, also to subnormals and 0; infinities and NaN stay."""
    numbers = np.zeros((1, 3, 4))
    numbers.reshape(-1)[:8] = [1e-46, -1e-46, 1e-42, 0.1, np.inf, -np.inf, np.nan, 3.4028235e38]
    graph = network(True)
    found = check_inputs(graph, {"x": numbers})["x"].reshape(-1)[:8]
    expected = np.array(
        [0.0, -0.0, 1e-42, 0.1, np.inf, -np.inf, np.nan, np.finfo(np.float32).max], np.float32
    )
    check_same_bits(found, expected)


@pytest.mark.parametrize("dtype", [np.float64, ">f8", np.longdouble])
@pytest.mark.parametrize("number", [3.5e38, -1e39, 1e300])
def test_numbers_that_no_float32_is(dtype, number, models):
    """As infinity they would come out as NaN somewhere, or as a class."""
    x = X.astype(dtype)
    x[2, 1, 1] = number
    for model in models:
        with pytest.raises(InputError, match=r"'x' of .* holds numbers beyond float32"):
            model(x)


def test_no_items(models):
    for model in models:
        for empty in (X[:0], np.zeros((0, 3, 4)), np.zeros((0, 3, 4), ">f4"), X[3:3, :, :]):
            found = model(empty)
            assert (found.shape, found.dtype) == ((0, 2), np.float32)


def test_what_is_given_is_not_changed(models):
    for model in models:
        for given in (X.copy(), X.astype(np.float64), np.asfortranarray(X)):
            before = given.copy()
            model(given)
            np.testing.assert_array_equal(given, before)


class Refuses:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("it is on another device\nand more lines")


REFUSED = {
    "a number": (1.0, r"has shape \(\), expected \(N, 3, 4\)"),
    "zero-dimensional": (np.array(1.0, np.float32), r"has shape \(\)"),
    "one item without a batch": (X[0], r"add a batch axis, x\[None\]"),
    "another shape": (X[:, :2], r"has shape \(5, 2, 4\)"),
    "one axis more": (X[None], r"has shape \(1, 5, 3, 4\)"),
    "no array at all": (None, "has dtype object"),
    "text": ("images", "has dtype <U6"),
    "integers": (X.astype(np.int64), "has dtype int64, expected float32"),
    "bytes": (X.astype(np.uint8), r"for pixels often x.astype\('float32'\) / 255"),
    "truth": (X > 0, "has dtype bool"),
    "complex": (X.astype(np.complex64), "has dtype complex64"),
    "times": (X.astype("m8[s]"), "has dtype timedelta64"),
    "objects": (X.astype(object), "has dtype object"),
    "records": (np.zeros((5, 3, 4), [("a", "f4")]), "has dtype"),
    "ragged lists": ([[1.0, 2.0], [3.0]], "is list, no array: "),
    "masked": (np.ma.masked_array(X, X > 1), r"has masked elements; .* x.filled\(0\)"),
    "on another device": (Refuses(), "is Refuses, no array: it is on another device$"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_name(kind, models):
    given, text = REFUSED[kind]
    for model in models:
        with pytest.raises(InputError, match=f"^input 'x' {text}|^input 'x' .*{text}") as caught:
            model(given)
        assert "\n" not in str(caught.value)


def test_by_name(models):
    for model in models:
        for given in ([X], X, None, {"y": X}, {1: X, "x": X}, {}):
            with pytest.raises(InputError, match="expected"):
                model.run(given)


@pytest.mark.parametrize("kind", SAME)
def test_nothing_warns(kind, models):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in models:
            model(SAME[kind](X))
