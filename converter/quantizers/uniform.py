"""uniform: symmetric B-bit integers times one scale.

Jacob et al., *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference*, CVPR 2018, section 2.1 with zero point 0, and the narrow range of its section 3.1 (no
-2^(B-1)), so that the levels are symmetric.
"""

from __future__ import annotations

import numpy as np

from deepchip.converter.quantizers.levels import Codes, Floats, encode, nearest


def quantize(values: Floats, bits: int) -> tuple[Floats, Codes]:
    """Quantize `values` [N], not all zero, to scale * {-n..n}, n = 2^(bits-1) - 1, 2 <= bits <= 8.

    scale = max|w| / n. All 2n nonzero levels are kept, used or not, except where float32
    underflows to zero.
    """
    steps = 2 ** (bits - 1) - 1
    integers = np.arange(-steps, steps + 1, dtype=np.float64)
    table = (float(np.abs(values).max()) * integers / steps).astype(np.float32)
    return encode(table, nearest(table, values))
