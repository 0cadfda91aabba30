"""Hypothesis strategies shared by the tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray


def code_matrices(levels: int = 255) -> st.SearchStrategy[NDArray[np.uint8]]:
    """Matrices of level codes, uint8[M, K], M and K from 0, many of them mostly zero."""
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=40)
    return hnp.arrays(np.uint8, shapes, elements=st.integers(0, levels), fill=st.just(0))


@st.composite
def position_sets(draw: st.DrawFn) -> tuple[NDArray[np.int64], int]:
    """Increasing positions, int64[count], and the size of the matrix that they lie in."""
    gaps = draw(st.lists(st.integers(0, 3) | st.integers(0, 2000), max_size=60))
    positions = np.cumsum(np.array(gaps, np.int64) + 1) - 1
    last = int(positions[-1]) if gaps else -1
    return positions, last + 1 + draw(st.integers(0, 20))


@st.composite
def symbol_streams(
    draw: st.DrawFn, max_count: int = 300, min_alphabet: int = 1
) -> tuple[NDArray[np.uint8], int]:
    """Symbols, uint8[count], and the size n of their alphabet; from even to very skewed counts."""
    n = draw(st.integers(min_alphabet, 256))
    count = draw(st.integers(0, max_count))
    skew = draw(st.sampled_from([0.0, 1.0, 3.0, 10.0]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    symbols = (n * random.random(count) ** (1 + skew)).astype(np.uint8)
    return symbols, n
