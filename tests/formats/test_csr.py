"""Compressed sparse rows: a hand-computed matrix, NumPy's nonzero as reference, every refusal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepchip.formats import csr
from deepchip.formats.csr import CSR
from deepchip.formats.errors import InvalidModelError, UnsupportedError
from tests.formats.codec_checks import check_docstrings, check_equal
from tests.strategies import code_matrices

DENSE = np.array(
    [
        [0, 0, 3, 0],
        [0, 0, 0, 0],
        [1, 2, 0, 1],
        [0, 0, 0, 2],
        [0, 0, 0, 0],
    ],
    np.uint8,
)
MATRIX = CSR(
    shape=(5, 4),
    indptr=np.array([0, 1, 1, 4, 5, 5], np.int32),
    indices=np.array([2, 0, 1, 3, 3], np.int32),
    codes=np.array([3, 1, 2, 1, 2], np.uint8),
)


def check_same(found, expected):
    assert found.shape == expected.shape
    for name in ("indptr", "indices", "codes"):
        check_equal(getattr(found, name), getattr(expected, name))


def test_docstrings():
    check_docstrings(csr)


def test_matrix_computed_by_hand():
    check_same(CSR.from_dense(DENSE), MATRIX)
    check_equal(MATRIX.to_dense(), DENSE)
    check_equal(MATRIX.positions(), np.array([2, 8, 9, 11, 15]))
    check_same(CSR.from_positions((5, 4), MATRIX.positions(), MATRIX.codes), MATRIX)
    MATRIX.validate(levels=3)


@given(code_matrices())
def test_round_trip(dense):
    matrix = CSR.from_dense(dense)
    matrix.validate(levels=255)
    rows, columns = np.nonzero(dense)
    check_equal(matrix.indices, columns.astype(np.int32))
    check_equal(np.diff(matrix.indptr), np.count_nonzero(dense, axis=1).astype(np.int32))
    check_equal(matrix.positions(), rows * dense.shape[1] + columns)
    check_equal(matrix.to_dense(), dense)
    check_same(CSR.from_positions(dense.shape, matrix.positions(), matrix.codes), matrix)
    check_same(
        CSR.from_positions(dense.shape, matrix.positions().astype(np.int32), matrix.codes), matrix
    )


@given(code_matrices(), st.integers(1, 50))
def test_groups_of_rows(dense, step):
    groups = list(CSR.from_dense(dense).row_groups(step))
    starts = range(0, max(1, len(dense)), step)
    for start, group in zip(starts, groups, strict=True):
        check_same(group, CSR.from_dense(dense[start : start + step]))


@given(code_matrices())
def test_compiled_columns(dense):
    matrix = CSR.from_dense(dense)
    positions = matrix.positions().astype(np.int32)
    found = CSR.from_positions(dense.shape, positions, matrix.codes, compiled=True)
    check_same(found, matrix)
    assert found.indices is positions or not positions.size


@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (7, 0)])
def test_no_entries(shape):
    matrix = CSR.from_dense(np.zeros(shape, np.uint8))
    matrix.validate(levels=1)
    assert matrix.indptr.tolist() == [0] * (shape[0] + 1)
    assert matrix.to_dense().shape == shape


@pytest.mark.parametrize(
    ("name", "at", "value", "message"),
    [
        ("indptr", 0, 1, "indptr goes from 1 to 5, expected 0 to 5"),
        ("indptr", 5, 6, "indptr goes from 0 to 6, expected 0 to 5"),
        ("indptr", 2, 0, "indptr falls from 1 to 0 at row 1"),
        ("indptr", 3, 2**31 - 1, "indptr falls from 2147483647 to 5 at row 3"),
        ("indptr", 3, -(2**31), "indptr falls from 1 to -2147483648 at row 2"),
        ("indices", 4, 4, "indices.4. is 4 in row 3, the matrix has 4 columns"),
        ("indices", 1, -1, "indices.1. is -1 in row 2"),
        ("indices", 2, 0, "indices.1. is 0 and is followed by 0 in row 2"),
        ("indices", 2, 3, "indices.2. is 3 and is followed by 3 in row 2"),
        ("indptr", 1, 0, "indices.0. is 2 and is followed by 0 in row 2"),
        ("codes", 0, 0, "codes.0. is 0, expected 1 to 3"),
        ("codes", 3, 4, "codes.3. is 4, expected 1 to 3"),
    ],
)
def test_validate_names_the_first_fault(name, at, value, message):
    array = getattr(MATRIX, name).copy()
    array[at] = value
    broken = {name: array}
    if (name, at, value) == ("indptr", 1, 0):
        broken["indptr"][2] = 0  # rows 0 and 1 are empty, row 2 owns 2, 0, 1, 3
    with pytest.raises(InvalidModelError, match=message):
        replace(MATRIX, **broken).validate(levels=3)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("indptr", MATRIX.indptr.astype(np.int64)),
        ("indptr", MATRIX.indptr[:-1]),
        ("indices", MATRIX.indices.astype(np.uint32)),
        ("indices", MATRIX.indices.reshape(1, 5)),
        ("codes", MATRIX.codes.astype(np.int8)),
        ("codes", MATRIX.codes[:-1]),
    ],
)
def test_validate_refuses_another_dtype_or_size(name, array):
    with pytest.raises(InvalidModelError, match=f"{name} is {array.dtype}.*, expected"):
        replace(MATRIX, **{name: array}).validate(levels=3)


@given(
    code_matrices(levels=3),
    st.sampled_from(["indptr", "indices", "codes"]),
    st.integers(0, 2**16),
    st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 45),
)
def test_what_passes_validation_is_in_bounds(dense, name, at, value):
    matrix = CSR.from_dense(dense)
    array = getattr(matrix, name).copy()
    if array.size:
        array[at % array.size] = value % 256 if name == "codes" else value
    changed = replace(matrix, **{name: array})
    try:
        changed.validate(levels=3)
    except InvalidModelError as error:
        with pytest.raises(InvalidModelError) as caught:
            changed.validate(levels=3, compiled=True)
        assert str(caught.value) == str(error)
        return
    changed.validate(levels=3, compiled=True)
    check_same(CSR.from_dense(changed.to_dense()), changed)


@pytest.mark.parametrize("shape", [(2**16, 2**15), (2**31, 0), (0, 2**31), (2**40, 2**40)])
def test_a_matrix_too_large_for_int32_is_unsupported(shape):
    empty = np.zeros(0, np.int32)
    with pytest.raises(UnsupportedError, match=r"fewer than 2147483648. Split the layer"):
        CSR.from_positions(shape, empty, empty.astype(np.uint8))
    with pytest.raises(UnsupportedError):
        replace(MATRIX, shape=shape).validate(levels=3)


def test_a_negative_size_is_invalid():
    with pytest.raises(InvalidModelError, match="a matrix of -5 x -4"):
        replace(MATRIX, shape=(-5, -4)).validate(levels=3)
