"""Codes to reals and back, activation functions, sums and products of values."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepchip.formats.graph import Quantization
from deepchip.formats.jit import jit
from deepchip.runtime.kernels.compiled.elementwise import exponential as compiled_exponential
from deepchip.runtime.kernels.plain.elementwise import exponential

from .one_node import (
    BACKENDS,
    check_same_bits,
    compute,
    one_node,
    quantizations,
    seeds,
)

TINY = np.finfo(np.float32).smallest_subnormal
SPECIAL = np.array(
    [0.0, -0.0, TINY, -TINY, 1e-38, -1e-38, 2.0**-10, -(2.0**-10), 0.5, -0.5, 1, -1, 2.5, -2.5,
     16.5, -16.5, 87.5, -87.5, 88.8, -88.8, 103.9, -104.1, 3e38, -3e38, np.inf, -np.inf, np.nan],
    np.float32,
)  # fmt: skip
"""Both zeros, subnormals, where a series ends, halves, where float32 exponentials end, the rest."""


def wide(seed=0, count=2000):
    """Numbers of every magnitude and both signs, and the special ones."""
    random = np.random.default_rng(seed)
    exponents = random.uniform(-40, 38, count)
    usual = 20 * random.standard_normal(count)
    signed = np.concatenate([10.0**exponents * random.choice([-1, 1], count), usual])
    return np.concatenate([signed.astype(np.float32), SPECIAL])[None]


def apply(op, backend, x, attributes=None, **forms):
    """What one operator makes of x, float32 [n]."""
    return compute(one_node(op, [x.shape], attributes, **forms), backend, x[None])[0]


ACTIVATIONS = [
    ("Relu", {}),
    ("Clip", {"minimum": -1.5, "maximum": 6.0}),
    ("Clip", {"minimum": 2.0, "maximum": 1.0}),
    ("LeakyRelu", {"alpha": 0.1}),
    ("LeakyRelu", {"alpha": -3.0}),
    ("Elu", {"alpha": 1.0}),
    ("Elu", {"alpha": -0.3}),
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("Softmax", {"axis": 0}),
]


@pytest.mark.parametrize(("op", "attributes"), ACTIVATIONS)
@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_activations_give_the_same_bits(op, attributes):
    x = wide()
    graph = one_node(op, [x.shape[1:]], attributes)
    check_same_bits(compute(graph, "numba", x), compute(graph, "numpy", x))
    finite = x[:, np.isfinite(x[0])]
    graph = one_node(op, [finite.shape[1:]], attributes, gives=Quantization(0.0625, 100, 8))
    check_same_bits(compute(graph, "numba", finite), compute(graph, "numpy", finite))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("op", "function"),
    [
        ("Sigmoid", lambda x: 1 / (1 + math.exp(-x)) if x > -700 else math.exp(x)),
        ("Tanh", math.tanh),
        ("Elu", lambda x: x if x >= 0 else 1.75 * math.expm1(x)),
    ],
)
def test_activations_are_rounded_from_float64(backend, op, function):
    """Half a unit in the last place of float32, and the little that float64 adds to it."""
    x = wide(1)[0]
    x = x[np.isfinite(x)]
    attributes = {"alpha": 1.75} if op == "Elu" else {}
    found = apply(op, backend, x, attributes).astype(np.float64)
    expected = np.array([function(float(value)) for value in x])
    unit = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    assert (np.abs(found - expected) <= 0.5001 * unit).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("op", "attributes", "expected"),
    [
        ("Relu", {}, [0.0, -0.0, 0.0, np.inf, np.nan]),
        ("Clip", {"minimum": -1.0, "maximum": 2.0}, [-1, -0.0, 0.0, 2, np.nan]),
        ("LeakyRelu", {"alpha": 0.5}, [-np.inf, -0.0, 0.0, np.inf, np.nan]),
        ("Elu", {"alpha": 2.0}, [-2, -0.0, 0.0, np.inf, np.nan]),
        ("Sigmoid", {}, [0, 0.5, 0.5, 1, np.nan]),
        ("Tanh", {}, [-1, -0.0, 0.0, 1, np.nan]),
    ],
)
def test_limits_of_activations(backend, op, attributes, expected):
    x = np.array([-np.inf, -0.0, 0.0, np.inf, np.nan], np.float32)
    check_same_bits(apply(op, backend, x, attributes), np.array(expected, np.float32))


@pytest.mark.parametrize("backend", BACKENDS)
def test_softmax_along_each_axis(backend):
    """softmax(ln 1, ln 2, ln 5) = 1/8, 2/8, 5/8, whatever is added to all of them."""
    row = np.log(np.array([1, 2, 5], np.float64))
    for axis in range(3):
        shape = [2, 2, 2]
        shape[axis] = 3
        along = row.reshape([3 if i == axis else 1 for i in range(3)])
        shift = np.arange(8).reshape(2, 2, 2).take([0], axis=axis) * 100
        x = (along + shift)[None].astype(np.float32)
        found = compute(one_node("Softmax", [tuple(shape)], {"axis": axis}), backend, x)
        expected = np.broadcast_to(np.exp(along), x.shape) / 8
        np.testing.assert_allclose(found, expected, rtol=1e-4)  # float32 has 1e-5 at 700
        np.testing.assert_allclose(found.sum(axis=axis + 1), 1, rtol=3e-7)


def exponents():
    random = np.random.default_rng(2)
    edges = [-745.2, -745.1, -745, -708.4, -708, -1, -0.0, 0.0, 1, 709, 709.78, 709.8]
    special = [np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324, -5e-324]
    halves = np.arange(-1074, 1024) * math.log(2) / 2  # where n = rint(x / ln 2) steps
    return np.concatenate([random.uniform(-745, 709, 100_000), edges, special, halves])


def test_exponential_against_the_c_library():
    x = exponents()
    found = exponential(x)
    with np.errstate(all="ignore"):
        expected = np.array([safe_exp(value) for value in x])
    usual = np.isfinite(expected) & (expected >= 2.0**-1022)
    error = np.abs(found[usual] - expected[usual]) / expected[usual]
    assert error.max() < 1e-14
    np.testing.assert_array_equal(found[~usual & (x > 0)], np.inf)
    assert np.isnan(found[np.isnan(x)]).all()
    subnormal = expected < 2.0**-1022  # where a unit in the last place is 2**-1074
    assert (np.abs(found[subnormal] - expected[subnormal]) <= 2.0**-1074).all()


def safe_exp(value):
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _each_exponential(x, out):
    for i in range(x.shape[0]):
        out[i] = compiled_exponential(x[i])


@pytest.mark.filterwarnings(
    "ignore:.*encountered:RuntimeWarning"
)  # of NumPy's scalars, not compiled
def test_exponential_gives_the_same_bits_compiled():
    x = exponents()
    out = np.empty_like(x)
    jit("void(float64[::1], float64[::1])")(_each_exponential)(x, out)
    check_same_bits(out, exponential(x))


@pytest.mark.parametrize("backend", BACKENDS)
def test_quantize_by_hand(backend):
    """Scale 0.5, zero point 3, 3 bits: halves go to the even neighbour, before the zero point."""
    form = Quantization(0.5, 3, 3)
    x = [0.0, -0.0, 0.24, 0.25, 0.26, 0.75, 1.25, -0.25, -0.75, 1.75, 2.0, 2.26, 99, -1.5, -1.76,
         -99]  # fmt: skip
    codes = [3, 3, 3, 3, 4, 5, 5, 3, 1, 7, 7, 7, 7, 0, 0, 0]
    assert apply("Quantize", backend, np.array(x, np.float32), gives=form).tolist() == codes
    special = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38], np.float32)
    assert apply("Quantize", backend, special, gives=form).tolist() == [0, 7, 0, 7, 0]


@given(quantizations(), seeds)
def test_quantize_rounds_what_float32_divides(form, seed):
    """Round half to even is Python's `round`; the quotient is float32."""
    random = np.random.default_rng(seed)
    scale = np.float32(form.scale)
    steps = random.integers(-600, 600, 100) / np.float32(2)  # every second one a tie
    x = np.concatenate([steps * scale, random.standard_normal(100) * 100 * scale]).astype("f")
    expected = [
        min(max(round(Fraction(float(v / scale))) + form.zero_point, 0), form.maximum) for v in x
    ]
    for backend in BACKENDS:
        assert apply("Quantize", backend, x, gives=form).tolist() == expected


@given(quantizations())
def test_every_code_comes_back(form):
    codes = list(range(form.maximum + 1))
    exact = [float(np.float32(Fraction(form.scale) * (c - form.zero_point))) for c in codes]
    x = np.array(exact, np.float32)
    for backend in BACKENDS:
        assert apply("Quantize", backend, x, gives=form).tolist() == codes
        assert apply("Dequantize", backend, x, reads=form).tolist() == exact
        assert apply("Quantize", backend, x, reads=form, gives=form).tolist() == codes


@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_scales(backend):
    """The smallest and the largest scale of a file: 2**100 = 1.27e30, 2**-100 = 7.9e-31."""
    x = np.array([1e-30, -1e-30, 1e30, -1e30, 0], np.float32)
    for scale, codes in (
        (2.0**-100, [129, 127, 255, 0, 128]),
        (2.0**100, [128, 128, 129, 127, 128]),
    ):
        form = Quantization(scale, 128, 8)
        assert apply("Quantize", backend, x, gives=form).tolist() == codes


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), seeds, st.data())
def test_sums_products_and_affine_broadcast_as_numpy_does(shape, seed, data):
    random = np.random.default_rng(seed)
    narrow = [n if data.draw(st.booleans()) else 1 for n in shape]
    a, b = (random.standard_normal((3, *s), np.float32) for s in (shape, narrow))
    scale, shift = (
        random.standard_normal(s[data.draw(st.integers(0, len(s))) :], np.float32)
        for s in (shape, narrow)
    )
    shapes = [tuple(shape), tuple(narrow)]
    affine = one_node("Affine", shapes[:1], {}, {"scale": scale, "shift": shift})
    for backend in BACKENDS:
        check_same_bits(compute(one_node("Add", shapes), backend, a, b), a + b)
        check_same_bits(compute(one_node("Mul", shapes[::-1]), backend, b, a), a * b)
        check_same_bits(compute(affine, backend, a), a * scale + shift)


@pytest.mark.parametrize("backend", BACKENDS)
def test_moves_and_joins(backend):
    """Concat, Reshape and Transpose give elements of their inputs, codes as codes."""
    x = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)
    for reads in (None, Quantization(1.0, 0, 4)):
        forms = {"reads": reads, "gives": reads}
        joined = one_node("Concat", [(2, 3, 2)] * 2, {"axis": 2}, **forms)
        assert (compute(joined, backend, x, x) == np.concatenate([x, x], axis=3)).all()
        flat = one_node("Reshape", [(2, 3, 2)], {"shape": (6, 2)}, **forms)
        assert (compute(flat, backend, x) == x.reshape(1, 6, 2)).all()
        turned = one_node("Transpose", [(2, 3, 2)], {"order": (2, 0, 1)}, **forms)
        assert (compute(turned, backend, x) == x.transpose(0, 3, 1, 2)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_operator_between_two_forms_of_codes(backend):
    """Relu of 0.5 * (code - 2) as codes of scale 1, zero point 1: -1, 0.5, 2.5 -> 0, 0, 2, + 1."""
    graph = one_node("Relu", [(3,)], reads=Quantization(0.5, 2, 3), gives=Quantization(1.0, 1, 2))
    assert compute(graph, backend, np.array([[-1, 0.5, 2.5]], "f")).tolist() == [[1, 1, 3]]
    graph = one_node(
        "Reshape", [(3,)], {"shape": (3,)},
        reads=Quantization(0.5, 2, 3), gives=Quantization(1.0, 1, 2),
    )  # fmt: skip
    assert compute(graph, backend, np.array([[-1, 0.5, 2.5]], "f")).tolist() == [[0, 1, 3]]
