"""Checks that every codec's tests share."""

from __future__ import annotations

import doctest
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numba.core import config
from numpy.typing import NDArray

from deepchip.formats.errors import InvalidModelError

Bytes = NDArray[np.uint8]
Decode = Callable[[Bytes], NDArray[Any]]


def check_docstrings(module: ModuleType) -> None:
    """The examples in the docstrings hold, and there are some."""
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def skip_without_compiler(compiled: bool) -> None:
    """Skip what takes a minute where a compiled function runs as plain Python."""
    if compiled and config.DISABLE_JIT:
        pytest.skip("millions of symbols, and nothing is compiled under NUMBA_DISABLE_JIT")


def joined(arrays: Iterable[NDArray[Any]], dtype: Any = np.uint8) -> NDArray[Any]:
    """What a decoder gives some at a time, as one array; of `dtype` if it gives nothing."""
    parts = list(arrays)
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def in_slices(array: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    """An array, `size` elements at a time."""
    return (array[start : start + size] for start in range(0, array.size, size))


def check_equal(found: NDArray[Any], expected: NDArray[Any]) -> None:
    """The same dtype, shape and values."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)


def check_round_trip(
    encode: Callable[[NDArray[Any]], Bytes], decode: Decode, value: NDArray[Any]
) -> None:
    """What is decoded is `value`, and it leaves the argument of either side as it was."""
    before = value.copy()
    data = encode(value)
    sent = data.copy()
    assert data.dtype == np.uint8
    check_equal(decode(data), value)
    check_equal(value, before)
    check_equal(data, sent)


def damaged(data: Bytes) -> Iterator[Bytes]:
    """Every truncation, some lengthenings, and every flip of one bit."""
    for size in range(data.size):
        yield data[:size]
    for more in ([0], [255], [0] * 9):
        yield np.concatenate([data, np.array(more, np.uint8)])
    for bit in range(8 * data.size):
        flipped = data.copy()
        flipped[bit // 8] ^= 1 << bit % 8
        yield flipped


def check_damage(decode: Decode, data: Bytes) -> None:
    """No damage passes for the original: it is refused, or it decodes to something else."""
    original = decode(data)
    for bad in damaged(data):
        try:
            found = decode(bad)
        except InvalidModelError as error:
            assert "\n" not in str(error)
        else:
            assert found.shape != original.shape or (found != original).any()


def outcome(decode: Decode, data: Bytes) -> str | list[int]:
    """What decoding gives: the text of the refusal, or the values."""
    try:
        return [int(value) for value in decode(data)]
    except InvalidModelError as error:
        return str(error)
