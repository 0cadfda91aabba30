"""Weights of levels with the nonzeros of each row sorted into runs of one level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.csr import CSR
from deepchip.formats.errors import UnsupportedError
from deepchip.formats.graph import LevelWeights
from deepchip.runtime.kernels.plain.reduce import Levels


@dataclass(frozen=True)
class Segments:
    """Nonzeros by row, then level, then column.

    A segment is the nonzeros of one row at one level.

    Attributes
    ----------
    rows : int32 [M + 1], row m owns the segments rows[m]:rows[m + 1]
    starts : int32 [S + 1], segment s owns the nonzeros starts[s]:starts[s + 1]
    levels : float32 [S], the scaled level of each segment
    columns : int32 [nnz], in [0, K)
    """

    rows: NDArray[np.int32]
    starts: NDArray[np.int32]
    levels: NDArray[np.float32]
    columns: NDArray[np.int32]

    @classmethod
    def of(cls, weight: LevelWeights, levels: Levels) -> Segments:
        """Sort the nonzeros of `weight`, and prove that sums of codes fit 32 bits.

        Parameters
        ----------
        levels : see `plain.reduce.scaling`
        """
        csr, count = weight.decode(), max(1, weight.levels.shape[-1])
        check_sums(csr)
        outputs = csr.shape[0]
        # Large layers have tens of millions of nonzeros: 32 bits a key, and few copies.
        starts = np.arange(0, outputs * count, count)
        if outputs * count < 2**31:
            starts = starts.astype(np.int32)
        key = np.repeat(starts, np.diff(csr.indptr))
        key += csr.codes
        order = np.argsort(key, kind="stable")
        key = key[order] - 1
        first = np.flatnonzero(np.diff(key, prepend=-1))
        present = key[first]
        return cls(
            np.searchsorted(present, np.arange(outputs + 1) * count).astype(np.int32),
            np.append(first, len(key)).astype(np.int32),
            levels.of(present // count, present % count) if len(present) else np.zeros(0, "f4"),
            csr.indices[order],
        )


def check_sums(csr: CSR) -> None:
    """Raise UnsupportedError unless the sum of any codes over a row fits 32 bits."""
    most = int(np.diff(csr.indptr).max(initial=0))
    if most * 255 >= 2**31:
        raise UnsupportedError(f"a row of {most} nonzeros could overflow a sum of 32 bits")
