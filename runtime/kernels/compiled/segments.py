"""The executed form of weights of levels: each row's nonzeros sorted into runs of one level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.errors import UnsupportedError
from deepchip.formats.graph import LevelWeights


@dataclass(frozen=True)
class Segments:
    """Nonzeros by row, then level, then column; a segment is the nonzeros of one row at one level.

    Attributes
    ----------
    rows : int32 [M + 1], row m owns the segments rows[m]:rows[m + 1]
    starts : int32 [S + 1], segment s owns the nonzeros starts[s]:starts[s + 1]
    levels : float32 [S], the level of each segment
    columns : int32 [nnz], in [0, K)
    """

    rows: NDArray[np.int32]
    starts: NDArray[np.int32]
    levels: NDArray[np.float32]
    columns: NDArray[np.int32]

    @classmethod
    def of(cls, weight: LevelWeights) -> Segments:
        """Sort the nonzeros of `weight`, and prove that sums of codes fit 32 bits."""
        csr, count = weight.decode(), weight.levels.shape[-1]
        per_row = np.diff(csr.indptr)
        if len(per_row) and int(per_row.max()) * 255 >= 2**31:
            raise UnsupportedError(
                f"a row of {int(per_row.max())} nonzeros could overflow a sum of 32 bits"
            )
        row = np.repeat(np.arange(len(per_row)), per_row)
        key = row * count + (csr.codes.astype(np.int64) - 1)
        order = np.argsort(key, kind="stable")
        present, first = np.unique(key[order], return_index=True)
        levels = weight.row_levels[present // max(1, count), present % max(1, count)]
        return cls(
            np.searchsorted(present, np.arange(len(per_row) + 1) * count).astype(np.int32),
            np.append(first, len(key)).astype(np.int32),
            np.ascontiguousarray(levels, np.float32),
            csr.indices[order].astype(np.int32),
        )
