"""NaN, infinities, subnormals and the largest floats: every operator, alike on both backends."""

from __future__ import annotations

import numpy as np
import pytest

from deepchip.formats.graph import Quantization
from deepchip.formats.operators import OPERATORS
from tests.runtime.one_node import BACKENDS, check_same_bits, compute, one_node, weights_of

NAN, INF = np.float32(np.nan), np.float32(np.inf)
LARGEST = np.finfo(np.float32).max
TINY = np.finfo(np.float32).smallest_subnormal
SPECIAL = np.array([NAN, INF, -INF, TINY, -TINY, 1e-40, LARGEST, -LARGEST, -0.0], np.float32)

ITEM = (4, 6, 5)
WINDOW = {"strides": (1, 2), "dilations": (1, 1), "pads": (1, 0, 0, 1)}
POOL = {**WINDOW, "kernel": (2, 3), "ceil_mode": 1}
random = np.random.default_rng(11)
LEVELS = weights_of(random.integers(0, 3, (6, 4, 2, 3)), [-0.25, 0.2])
ROWS = weights_of(random.integers(0, 3, (7, 120)), [-0.25, 0.2])
FLOATS = np.where(
    random.random((6, 4, 2, 3)) < 0.5, 0, random.uniform(-0.2, 0.2, (6, 4, 2, 3))
).astype(np.float32)
CHANNELS = random.uniform(-0.9, 0.9, (4, 1, 1)).astype(np.float32)
TAPS = random.uniform(-0.4, 0.4, (3, 2)).astype(np.float32)

ONE_INPUT = ("Relu", "Sigmoid", "Tanh", "Softplus", "Erf", "Exp", "Log", "Sqrt", "Reciprocal",
             "Abs", "Sign", "Bipolar", "Round", "Floor", "Ceil")  # fmt: skip
PAIRS = ("Add", "Sub", "Mul", "Div", "Max", "Min")
CASES = [
    ("Conv", 1, {**WINDOW, "groups": 1}, {"weight": LEVELS}),
    ("Conv", 1, {**WINDOW, "groups": 1}, {"weight": FLOATS}),
    ("FullyConnected", 1, {}, {"weight": ROWS}),
    ("FullyConnected", 1, {}, {"weight": random.uniform(-0.2, 0.2, (7, 120)).astype(np.float32)}),
    ("MaxPool", 1, POOL, {}),
    ("AveragePool", 1, {**POOL, "count_include_pad": 1}, {}),
    ("Lrn", 1, {"size": 3, "alpha": 0.5, "beta": 0.75, "bias": 1.0}, {}),
    ("Affine", 1, {}, {"scale": CHANNELS, "shift": CHANNELS}),
    ("PRelu", 1, {}, {"slope": CHANNELS}),
    ("Clip", 1, {"minimum": -0.5, "maximum": 1.5}, {}),
    ("LeakyRelu", 1, {"alpha": 0.125}, {}),
    ("Elu", 1, {"alpha": 1.5}, {}),
    *((op, 1, {}, {}) for op in ONE_INPUT),
    *((op, 2, {}, {}) for op in PAIRS),
    ("Softmax", 1, {"axis": 0}, {}),
    ("Concat", 2, {"axis": 1}, {}),
    ("Reshape", 1, {"shape": (120,)}, {}),
    ("Transpose", 1, {"order": (2, 0, 1)}, {}),
    ("Take", 1, {"axis": 1, "indices": (5, 0, 0)}, {}),
    ("Pad", 1, {"pads": (0, 1, 0, 1, 0, 2), "value": 0.5}, {}),
    ("Resample", 1, {"axis": 2, "indices": (0, 1, 4, 2, 3, 3)}, {"weights": TAPS}),
]
LAYERS = ("Conv", "FullyConnected")
FORM = Quantization(0.5, 3, 4)


def inputs_of(seed, item):
    """Items that hold each special number once, then some that hold many of them."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((len(SPECIAL) + 4, *item), np.float32)
    places = random.integers(0, x[0].size, len(SPECIAL))
    x.reshape(len(x), -1)[np.arange(len(SPECIAL)), places] = SPECIAL
    # Not many of the largest: whether sums of those overflow depends on their order.
    many = random.choice(SPECIAL[:6], x[-4:].shape)
    x[-4:] = np.where(random.random(many.shape) < 0.1, many, x[-4:])
    return x


def test_every_operator_is_tried():
    assert {op for op, *_ in CASES} | {"Quantize", "Dequantize"} == set(OPERATORS)


@pytest.mark.parametrize(("op", "count", "attributes", "tensors"), CASES)
@pytest.mark.parametrize("gives", [None, FORM])
def test_floats(op, count, attributes, tensors, gives):
    """Over float32: NaN and infinities at the same places, and the rest to 1e-5."""
    item = (120,) if op == "FullyConnected" else ITEM
    graph = one_node(op, [item] * count, attributes, tensors, gives=gives)
    x = [inputs_of(seed, item) for seed in range(count)]
    plain, compiled = (compute(graph, backend, *x) for backend in BACKENDS)
    if gives is not None:
        # A sum that differs in its last bits may round to a neighbour of the same code.
        distance = np.abs(plain.astype(int) - compiled)
        assert (distance <= (op in (*LAYERS, "Resample"))).all()
        assert (distance > 0).mean() < 0.01
        return
    for special in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(special(plain), special(compiled))
    finite = np.isfinite(plain)
    found, expected = compiled[finite].astype(np.float64), plain[finite].astype(np.float64)
    # Ordinary inputs of a layer may cancel; they and its weights add up to 20 at most.
    sizes = np.maximum(np.abs(expected), 20 if op in LAYERS else 1e-38)
    assert (np.abs(found - expected) <= 1e-5 * sizes).all()


@pytest.mark.parametrize(
    ("op", "count", "attributes", "tensors"),
    [case for case in CASES if not isinstance(case[-1].get("weight"), np.ndarray)],
)
@pytest.mark.parametrize("gives", [None, FORM])
def test_codes(op, count, attributes, tensors, gives):
    """Codes of special numbers, and what is computed on them: the same bits."""
    item = (120,) if op == "FullyConnected" else ITEM
    graph = one_node(op, [item] * count, attributes, tensors, reads=FORM, gives=gives)
    x = [inputs_of(seed, item) for seed in range(count)]
    plain, compiled = (compute(graph, backend, *x) for backend in BACKENDS)
    check_same_bits(compiled, plain)


@pytest.mark.parametrize("backend", BACKENDS)
def test_codes_of_special_numbers(backend):
    """SPEC.md: clip(rint(x / s) + z, 0, 2^bits - 1); NaN gives 0."""
    graph = one_node("Quantize", [(9,)], gives=FORM)
    assert compute(graph, backend, SPECIAL[None])[0].tolist() == [0, 15, 0, 3, 3, 3, 15, 0, 3]


def test_what_is_no_weight_adds_nothing_to_infinity():
    """Of levels, zeros are not there; of floats, 0 times infinity is NaN."""
    codes = np.array([[0, 1, 2, 0], [2, 0, 1, 1], [0, 0, 0, 0]], np.uint8)
    levels = weights_of(codes, [-2, 0.5])
    x = np.array([[INF, 1, 2, 3], [1, INF, INF, 3], [NAN, 1, 2, 3], [1, -INF, 4, -INF]], np.float32)
    by_hand = [[-1, INF, 0], [NAN, -INF, 0], [-1, NAN, 0], [INF, INF, 0]]
    # -2 * inf + 0.5 * inf; 0.5 - 2 inf - 6; -2 * -inf + 2; 0.5 - 8 + 2 inf
    for backend in BACKENDS:
        graph = one_node("FullyConnected", [(4,)], tensors={"weight": levels})
        np.testing.assert_array_equal(compute(graph, backend, x), np.array(by_hand, np.float32))
        graph = one_node("FullyConnected", [(4,)], tensors={"weight": levels.to_dense()})
        found = compute(graph, backend, x)
        assert np.isnan(found[[0, 0, 1, 2], [0, 2, 1, 0]]).all()


def test_a_level_of_zero_is_a_weight():
    """Where a file holds one, it is multiplied as any other, on both backends."""
    weight = weights_of(np.array([[1, 0]], np.uint8), [0.0])
    graph = one_node("FullyConnected", [(2,)], tensors={"weight": weight})
    for backend in BACKENDS:
        found = compute(graph, backend, np.array([[INF, 1], [1, INF]], np.float32))
        np.testing.assert_array_equal(found, np.array([[NAN], [0]], np.float32))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("threads", [1, 2])
def test_subnormals_are_not_flushed(backend, threads):
    """Neither what is read nor what is computed, on no thread."""
    x = np.full((3, 4, 64, 64), 3 * TINY, np.float32)
    pairs = one_node("Add", [x.shape[1:]] * 2)
    assert (compute(pairs, backend, x, x, threads=threads) == 6 * TINY).all()
    weight = weights_of(np.eye(4, dtype=np.uint8)[:, :, None, None], [2.0])
    conv = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "groups": 1}
    graph = one_node("Conv", [x.shape[1:]], conv, {"weight": weight})
    assert (compute(graph, backend, x, threads=threads) == 6 * TINY).all()
    small = np.full((3, 4, 64, 64), 2.0**-120, np.float32)  # times 2**-20: subnormal
    scale = np.full((4, 1, 1), 2.0**-20, np.float32)
    graph = one_node("Affine", [x.shape[1:]], tensors={"scale": scale, "shift": 0 * scale})
    assert (compute(graph, backend, small, threads=threads) == np.float32(2.0**-140)).all()
