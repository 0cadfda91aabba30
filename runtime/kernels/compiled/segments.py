"""The executed form of weights of levels: each row's nonzeros sorted into runs of one level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.csr import CSR
from deepchip.formats.errors import UnsupportedError
from deepchip.formats.graph import LevelWeights


@dataclass(frozen=True)
class Segments:
    """Nonzeros by block of columns, then row, then level, then column.

    A segment is the nonzeros of one row at one level within one block.

    Attributes
    ----------
    rows : int32 [blocks * M + 1], row m owns in block b the segments from rows[b * M + m] on
    starts : int32 [S + 1], segment s owns the nonzeros starts[s]:starts[s + 1]
    slots : uint8 [S], which of the L levels each segment is at
    levels : float32 [S], the level of each segment
    columns : int32 [nnz], in [0, K)
    block : columns of a block
    """

    rows: NDArray[np.int32]
    starts: NDArray[np.int32]
    slots: NDArray[np.uint8]
    levels: NDArray[np.float32]
    columns: NDArray[np.int32]
    block: int

    @classmethod
    def of(cls, weight: LevelWeights, block: int | None = None) -> Segments:
        """Sort the nonzeros of `weight`, and prove that sums of codes fit 32 bits."""
        csr, count = weight.decode(), max(1, weight.levels.shape[-1])
        check_sums(csr)
        per_row = np.diff(csr.indptr)
        outputs, inputs = csr.shape
        block = inputs if block is None else min(block, inputs)
        row = np.repeat(np.arange(outputs), per_row)
        place = csr.indices // block * outputs + row
        key = place * count + (csr.codes.astype(np.int64) - 1)
        order = np.argsort(key, kind="stable")
        present, first = np.unique(key[order], return_index=True)
        slots = present % count
        places = -(-inputs // block) * outputs
        return cls(
            np.searchsorted(present, np.arange(places + 1) * count).astype(np.int32),
            np.append(first, len(key)).astype(np.int32),
            slots.astype(np.uint8),
            np.ascontiguousarray(weight.row_levels[present // count % outputs, slots], np.float32)
            if len(present)
            else np.zeros(0, np.float32),
            csr.indices[order].astype(np.int32),
            block,
        )


def check_sums(csr: CSR) -> None:
    """Raise UnsupportedError unless the sum of any codes over a row fits 32 bits."""
    most = int(np.diff(csr.indptr).max(initial=0))
    if most * 255 >= 2**31:
        raise UnsupportedError(f"a row of {most} nonzeros could overflow a sum of 32 bits")
