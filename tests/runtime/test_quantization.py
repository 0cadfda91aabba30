"""Codes to reals and back."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given

from deepchip.formats.graph import Quantization

from .one_node import BACKENDS, apply, compute, one_node, quantizations, seeds


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


def hardest_quotients():
    """Yield every scale s, and every x for which x / s is next to where float32 rounds to n + 1/2.

    m, half a unit in the last place beside n + 1/2, is an odd integer of 25 bits over a power of
    two. Where m s = r modulo 2**25, x = m s - r over 2**25 is a float32, and x / s is |r| * 2**-25
    to |r| * 2**-24 units in the last place beside m. See `quotients`: |r| of 2 is the most that
    matters.
    """
    for n in range(255):
        shift = 25 - (2 * n + 1).bit_length()
        for m in ((2 * n + 1 << shift) - 1, (2 * n + 1 << shift) + 1):
            for r in (-4, -3, -2, -1, 1, 2, 3, 4):
                s = r * pow(m, -1, 2**25) % 2**25
                if 2**23 <= s < 2**24:
                    x = (m * s - r) >> 25
                    yield np.float32(s * 2.0**-23), np.float32(x * 2.0 ** (1 - shift))


@pytest.mark.parametrize("factor", [1.0, 2.0**-100, 2.0**99])
def test_quotients_that_are_hardest_to_round(factor):
    """Whole vectors of them, which are divided without a division."""
    for scale, x in hardest_quotients():
        form = Quantization(float(scale * factor), 0, 8)
        found = apply("Quantize", "numba", np.full(64, x * factor, np.float32), gives=form)
        assert set(found.tolist()) == {round(Fraction(float(x / scale)))}


@pytest.mark.parametrize("exponent", [-100, -99, -64, -1, 0, 1, 64, 98, 99])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_quotients_next_to_ties(exponent, bits):
    """What lies within a few float32 of the middle between two codes, at scales of all sizes."""
    maximum = 2**bits - 1
    for fraction in (1.0, 1.1, 1.9999999, *np.random.default_rng(bits).uniform(1, 2, 20)):
        scale = np.float32(min(fraction * 2.0**exponent, 2.0**100))
        form = Quantization(float(scale), maximum // 3, bits)
        middles = np.arange(-form.zero_point - 1, maximum - form.zero_point + 1) + 0.5
        near = [(np.float64(scale) * middles).astype(np.float32)]
        for end in (np.float32(np.inf), np.float32(-np.inf)):
            x = near[0]
            for _ in range(3):
                near.append(x := np.nextafter(x, end))
        x = np.resize(np.concatenate(near), 64 * (len(near) * len(middles) // 64 + 1))
        expected = np.clip(np.rint(x / scale) + form.zero_point, 0, maximum)
        for backend in BACKENDS:
            np.testing.assert_array_equal(apply("Quantize", backend, x, gives=form), expected)
