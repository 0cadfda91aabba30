"""Scales from samples: hand-worked ranges, and the best of all ranges by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepchip.converter import ranges
from deepchip.converter.ranges import Reservoir, from_range, least_squares, percentile
from deepchip.formats.errors import InputError
from tests.converter.graphs import F32, form, random


@pytest.mark.parametrize(
    ("low", "high", "bits", "expected"),
    [
        (0.0, 1.5, 4, form(0.1, 0, 4)),
        (0.3, 1.5, 4, form(0.1, 0, 4)),  # zero must have a code
        (-1.0, 2.0, 2, form(1.0, 1, 2)),
        (-2.0, -1.0, 1, form(2.0, 1, 1)),
        (0.0, 0.0, 8, form(1.0, 0, 8)),
        (0.0, 1e-38, 8, form(2.0**-100, 0, 8)),
    ],
)
def test_from_range(low, high, bits, expected):
    assert from_range(low, high, bits) == expected


def test_percentile_clips_the_tail():
    samples = F32(range(1001))
    assert percentile(99.0)(samples, 8) == form(990 / 255)
    assert percentile(100.0)(-samples, 8) == form(1000 / 255, 255)


def squared_error(samples, quantization):
    codes = np.rint(samples / quantization.scale) + quantization.zero_point
    real = (np.clip(codes, 0, quantization.maximum) - quantization.zero_point) * quantization.scale
    return float(((samples - real) ** 2).sum())


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_least_squares_beats_the_whole_range_and_comes_near_the_best(bits):
    samples = np.abs(random(0, 20000)) ** 3  # a long tail
    chosen = squared_error(samples, least_squares(samples, bits))
    tried = [from_range(0.0, float(samples.max()) * f, bits) for f in np.linspace(0.002, 1, 999)]
    errors = [squared_error(samples, quantization) for quantization in tried]
    assert chosen <= errors[-1]
    assert chosen <= 1.1 * min(errors)


def test_least_squares_of_a_gaussian_is_the_known_clip():
    """Banner et al., NeurIPS 2019, table 1: 4 bits of a Gaussian are clipped at 2.55 sigma."""
    quantization = least_squares(random(1, 400_000), 4)
    low, high = quantization.range
    assert (high - low) / 2 == pytest.approx(2.55, abs=0.15)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(1, 40))
def test_a_reservoir_takes_the_same_whatever_the_slices(sizes, most):
    values = np.arange(sum(sizes), dtype=F32)
    whole, parts = Reservoir(len(values), most), Reservoir(len(values), most)
    whole.add(values)
    for part in np.split(values, np.cumsum(sizes)[:-1]):
        parts.add(part)
    np.testing.assert_array_equal(whole.samples(), parts.samples())
    assert len(whole.samples()) <= most


@pytest.mark.parametrize("text", ["", "msee", "percentile:x", "percentile:101"])
def test_bad_rules_are_refused(text):
    with pytest.raises(InputError, match="percentile"):
        ranges.parse(text)
