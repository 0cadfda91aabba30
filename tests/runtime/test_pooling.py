"""Pooling: hand-computed windows, and both backends against a window at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepchip.formats.graph import Quantization

from .one_node import (
    BACKENDS,
    BATCHES,
    check_same_bits,
    compute,
    one_node,
    quantizations,
    random_codes,
    reals,
    seeds,
    windows,
)

PLAIN = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "ceil_mode": 0}


@st.composite
def pools(draw):
    """Attributes that both pools share, and shape of the items."""
    window, kernel, plane = draw(windows(pool=True))
    attributes = {**window, "kernel": kernel, "ceil_mode": draw(st.integers(0, 1))}
    return attributes, (draw(st.integers(1, 3)), *plane)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("include", "ceil", "expected"),
    [
        # Rows 1 2 3 and 4 5 6, one zero to the left; windows of 2 x 2, two columns further each.
        # The first covers 0 1 | 0 4: over 2 elements, or over 4 with the pads.
        (0, 0, [[2.5, 4.0]]),
        (1, 0, [[1.25, 4.0]]),
        # With a zero to the right too, rounding up would start a window in it: none starts there.
        (0, 1, [[2.5, 4.0]]),
    ],
)
def test_average_by_hand(backend, include, ceil, expected):
    attributes = {
        **PLAIN, "kernel": (2, 2), "strides": (1, 2), "pads": (0, 1, 0, ceil), "ceil_mode": ceil,
        "count_include_pad": include,
    }  # fmt: skip
    x = np.array([[[[1, 2, 3], [4, 5, 6]]]], np.float32)
    graph = one_node("AveragePool", [x.shape[1:]], attributes)
    assert compute(graph, backend, x)[0, 0].tolist() == expected
    reads = Quantization(0.5, 3, 4)  # codes 5, 7, 9 and 11, 13, 15
    graph = one_node("AveragePool", [x.shape[1:]], attributes, reads=reads)
    assert compute(graph, backend, x)[0, 0].tolist() == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_rounding_up_by_hand(backend):
    """Columns 1 .. 4, windows of 3, two further each: 1 2 3, and 3 4 that reach past the end.

    What lies beyond the pads never counts in the divisor.
    """
    x = np.array([[[[1, 2, 3, 4]]]], np.float32)
    attributes = {**PLAIN, "kernel": (1, 3), "strides": (1, 2), "ceil_mode": 1}
    assert compute(one_node("MaxPool", [(1, 1, 4)], attributes), backend, x).tolist() == [
        [[[3, 4]]]
    ]
    for include in (0, 1):
        average = {**attributes, "count_include_pad": include}
        graph = one_node("AveragePool", [(1, 1, 4)], average)
        assert compute(graph, backend, x).tolist() == [[[[2, 3.5]]]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_is_no_maximum(backend):
    """Pads are below every number, and below the code 0 as well as below a zero point."""
    attributes = {**PLAIN, "kernel": (2, 2), "pads": (1, 1, 1, 1)}
    x = np.array([[[[-3]]]], np.float32)
    everywhere = np.full((1, 1, 2, 2), -3, np.float32)
    check_same_bits(compute(one_node("MaxPool", [(1, 1, 1)], attributes), backend, x), everywhere)
    reads = Quantization(1.0, 5, 3)
    graph = one_node("MaxPool", [(1, 1, 1)], attributes, reads=reads, gives=reads)
    assert (compute(graph, backend, x) == 2).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_maximum_passes_over_nan_and_is_the_first_of_equal_ones(backend):
    """Windows of 2 x 2, row by row: 5 beside NaN; nothing but NaN; +0 before -0; -0 before +0."""
    nan = np.nan
    rows = [[nan, nan, nan, nan, -1, 0.0, -1, -0.0], [5, nan, nan, nan, -0.0, -1, 0.0, -1]]
    attributes = {**PLAIN, "kernel": (2, 2), "strides": (2, 2)}
    found = compute(
        one_node("MaxPool", [(1, 2, 8)], attributes), backend, np.array([[rows]], np.float32)
    )
    check_same_bits(found, np.array([[[[5, -np.inf, 0.0, -0.0]]]], np.float32))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    ("width", "kernel", "pads", "dilation"),
    [
        *[(width, 3, 1, 1) for width in (1, 62, 63, 64, 65, 127, 128, 129, 200, 257)],
        *[(width, kernel, 0, 1) for width in (4, 31, 63, 64, 65) for kernel in (2, 3)],
        (112, 2, 0, 1), (64, 1, 0, 1), (70, 4, 3, 20), (300, 2, 70, 71), (5, 2, 2, 5),
    ],
)  # fmt: skip
def test_rows_of_every_length(width, kernel, pads, dilation, stride, threads):
    """Rows of codes and of windows that are less than a vector of 64, as long, and longer."""
    attributes = {
        **PLAIN, "kernel": (2, kernel), "strides": (2, stride), "dilations": (1, dilation),
        "pads": (0, pads, 1, pads),
    }  # fmt: skip
    x = np.random.default_rng(width).integers(0, 256, (2, 3, 9, width)).astype(np.float32)
    form = Quantization(1.0, 0, 8)
    expected = each_window(x, np.nanmax, **attributes)
    for reads in (None, form):
        graph = one_node("MaxPool", [x.shape[1:]], attributes, reads=reads, gives=reads)
        np.testing.assert_array_equal(compute(graph, "numba", x, threads=threads), expected)


@given(pools(), st.none() | quantizations(), st.booleans(), st.sampled_from(BATCHES), seeds)
@settings(max_examples=80)
def test_maximum_of_each_window(pool, reads, stays, batch, seed):
    attributes, item = pool
    random = np.random.default_rng(seed)
    if reads is None:
        x = random.standard_normal((batch, *item), np.float32)
    else:
        x = reals(random_codes(random, reads, batch, *item), reads)
    gives = reads if stays else None
    graph = one_node("MaxPool", [item], attributes, reads=reads, gives=gives)
    expected = each_window(x, np.nanmax, **attributes)
    for backend in BACKENDS:
        found = compute(graph, backend, x)
        check_same_bits(found if gives is None else reals(found, gives), expected)


@given(pools(), st.none() | quantizations(), st.booleans(), st.sampled_from(BATCHES), seeds)
@settings(max_examples=80)
def test_average_of_each_window(pool, reads, include, batch, seed):
    """Of whole numbers, whose sums are exact; over codes scale * (S - zero_point * n) / divisor."""
    attributes, item = pool
    random = np.random.default_rng(seed)
    form = reads or Quantization(1.0, 100, 8)
    codes = random_codes(random, form, batch, *item)
    whole = codes.astype(np.float32) - np.float32(form.zero_point)
    sums = each_window(whole, np.nansum, **attributes)
    inside = np.ones_like(whole)
    if include:  # pads count; what rounding up adds beyond them does not
        top, left, bottom, right = attributes["pads"]
        inside = np.pad(inside, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=1)
        unpadded = {**attributes, "pads": (0, 0, 0, 0)}
        divisor = each_window(inside, np.nansum, **unpadded)[..., : sums.shape[2], : sums.shape[3]]
    else:
        divisor = each_window(inside, np.nansum, **attributes)
    expected = np.float32(form.scale) * sums / divisor
    graph = one_node(
        "AveragePool", [item], {**attributes, "count_include_pad": int(include)}, reads=reads
    )
    for backend in BACKENDS:
        check_same_bits(compute(graph, backend, reals(codes, form)), expected)


@given(pools(), st.none() | quantizations(), quantizations(), st.integers(0, 1), seeds)
@settings(max_examples=40)
def test_averages_agree(pool, reads, gives, include, seed):
    """Of float32 numbers too: they are added in the order of the window."""
    attributes, item = pool
    x = np.random.default_rng(seed).standard_normal((2, *item), np.float32)
    average = {**attributes, "count_include_pad": include}
    for form in (None, gives):
        graph = one_node("AveragePool", [item], average, reads=reads, gives=form)
        check_same_bits(compute(graph, "numba", x), compute(graph, "numpy", x))


def each_window(x, reduce, kernel, strides, dilations, pads, ceil_mode):
    """Reduce one window at a time; a pad is NaN, which `reduce` passes over."""
    top, left, bottom, right = pads
    sizes = (x.shape[2] + top + bottom, x.shape[3] + left + right)
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    plane = np.full((*x.shape[:2], *(n + t for n, t in zip(sizes, strides, strict=True))), np.nan)
    plane[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
    starts = []
    for n, end, span, step in zip(sizes, (bottom, right), spans, strides, strict=True):
        fits = [at for at in range(0, n, step) if at + span <= n]
        more = fits[-1] + step
        # Rounding up adds a window unless the ones before cover everything, or it starts in pads.
        reaches = fits[-1] + span < n
        starts.append(fits + [more] * (ceil_mode and reaches and more < n - end))
    y = np.empty((*x.shape[:2], *map(len, starts)), np.float32)
    for r, row in enumerate(starts[0]):
        for c, column in enumerate(starts[1]):
            seen = plane[
                :, :, row : row + spans[0] : dilations[0], column : column + spans[1] : dilations[1]
            ]
            y[:, :, r, c] = reduce(seen, axis=(2, 3)) if len(x) else 0
    return y
