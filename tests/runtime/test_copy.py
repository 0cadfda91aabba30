"""Copies of bytes in vectors: every byte that is asked for, and not one more."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from deepchip.runtime.kernels.compiled.frame import address
from deepchip.runtime.kernels.compiled.outputs import copy

SIZES = [*range(20), 31, 32, 33, 63, 64, 65, 127, 128, 129, 191, 192, 193]


@pytest.fixture(scope="module")
def compiled():
    return numba.njit(lambda target, source, count: copy(target, source, count))


@pytest.mark.parametrize("size", SIZES)
def test_bytes_of_any_number(compiled, size):
    source = np.arange(1, size + 201, dtype=np.uint8)
    target = np.zeros_like(source)
    compiled(address(target) + 100, address(source) + 37, size)
    np.testing.assert_array_equal(target[100 : 100 + size], source[37 : 37 + size])
    assert not target[:100].any()
    assert not target[100 + size :].any()
