"""auto: keep weights that already take few values, bit for bit; leave every other layer float.

For networks whose training or pruning has quantized them already, as in Zhu et al., *Trained
Ternary Quantization*, ICLR 2017, and Han et al., *Deep Compression*, ICLR 2016.
"""

from __future__ import annotations

import numpy as np

from deepchip.converter.quantizers.levels import (
    BLOCK,
    MAX_LEVELS,
    Codes,
    Floats,
    encode,
    nearest,
)


def quantize(values: Floats) -> tuple[Floats, Codes] | None:
    """Return the distinct nonzero values of `values` [N] as levels, or None if more than 255.

    The levels have the bits of the weights; -0.0 counts as zero.
    """
    table = distinct(values, MAX_LEVELS + 1)
    if table is None or np.count_nonzero(table) > MAX_LEVELS:
        return None
    return encode(table, nearest(table, values))


def distinct(values: Floats, limit: int) -> Floats | None:
    """Return the distinct entries of `values` [N], ascending, or None if more than `limit`.

    Goes block by block, so that trained float weights are declined after the first.
    """
    found = np.empty(0, np.float32)
    for start in range(0, values.size, BLOCK):
        found = np.union1d(found, values[start : start + BLOCK])
        if found.size > limit:
            return None
    return found
