"""Arrays given out again in other sizes, against slices of the whole."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deepchip.formats import pieces
from deepchip.formats.csr import CSR
from deepchip.formats.pieces import Pieces, row_groups
from tests.formats.codec_checks import check_docstrings, check_equal, in_slices
from tests.strategies import code_matrices


def test_docstrings():
    check_docstrings(pieces)


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
def test_pieces_follow_one_another(sizes, wanted):
    whole = np.arange(sum(sizes), dtype=np.int32)
    given_out = Pieces(np.split(whole, np.cumsum(sizes)), np.int32)
    start = 0
    for count in wanted:
        check_equal(given_out.take(count), whole[start : start + count])
        start += count


@given(st.lists(st.integers(0, 99), unique=True), st.integers(1, 9), st.lists(st.integers(0, 120)))
def test_pieces_below_a_limit(values, size, limits):
    whole = np.sort(np.array(values, np.int32))
    given_out = Pieces(in_slices(whole, size), np.int32)
    before = -1
    for limit in sorted(limits):
        expected = whole[(whole >= before) & (whole < limit)]
        check_equal(given_out.take_below(limit), expected)
        before = limit


def test_the_arrays_end_with_the_last_element():
    """A decoder raises what is wrong with the end of its stream before the last piece is used."""
    ended = []

    def arrays():
        yield np.array([1, 2, 3])
        ended.append(True)

    given_out = Pieces(arrays(), np.int32)
    given_out.take(2)
    assert not ended
    given_out.take(1)
    assert ended


def test_a_piece_is_an_array_of_its_own():
    whole = np.arange(5, dtype=np.int32)
    piece = Pieces([whole], np.int32).take(5)
    piece += 1
    assert whole.tolist() == [0, 1, 2, 3, 4]


@given(code_matrices(), st.integers(1, 50), st.integers(1, 30), st.integers(1, 30), st.booleans())
def test_rows_of_positions(dense, step, some_positions, some_codes, compiled):
    matrix = CSR.from_dense(dense)
    positions = in_slices(matrix.positions().astype(np.int32), some_positions)
    codes = in_slices(matrix.codes, some_codes)
    groups = row_groups(dense.shape, positions, codes, step, compiled=compiled)
    for start, group in zip(range(0, len(dense), step), groups, strict=True):
        group.validate(255)
        check_equal(group.to_dense(), dense[start : start + step])
