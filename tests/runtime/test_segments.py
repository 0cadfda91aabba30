"""Nonzeros sorted into runs of one level."""

from __future__ import annotations

import numpy as np

from deepchip.formats.csr import CSR
from deepchip.formats.graph import LevelWeights
from deepchip.runtime.kernels.compiled.segments import Segments
from deepchip.runtime.kernels.plain.reduce import scaling


def test_rows_times_levels_beyond_32_bits():
    """Of 8.6 million rows and 255 levels, three rows hold a weight each."""
    rows, levels = 8_600_000, np.arange(1, 256, dtype=np.float32)
    at = np.array([1, rows // 2, rows - 1])
    indptr = np.searchsorted(at, np.arange(rows + 1)).astype(np.int32)
    csr = CSR((rows, 1), indptr, np.zeros(3, np.int32), np.array([255, 1, 7], np.uint8))
    weight = LevelWeights.of((rows, 1), levels, csr)
    found = Segments.of(weight, scaling(weight, None, None, None)[0])
    np.testing.assert_array_equal(found.levels, [255, 1, 7])
    np.testing.assert_array_equal(found.starts, [0, 1, 2, 3])
    np.testing.assert_array_equal(np.flatnonzero(np.diff(found.rows)), at)
    assert found.rows[-1] == 3
