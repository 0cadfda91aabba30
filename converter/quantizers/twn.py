"""twn: ternary weights with one scale for both signs.

Li, Zhang, Liu, *Ternary Weight Networks*, 2016 (arXiv:1605.04711): the threshold
delta = 0.7 * mean|w| approximates the best one, and the scale alpha is the mean of |w| above it.
"""

from __future__ import annotations

import numpy as np

from deepchip.converter.quantizers.levels import Codes, Floats, encode, float32_below


def quantize(values: Floats) -> tuple[Floats, Codes]:
    """Quantize `values` [N], not all zero, to -alpha, 0 and +alpha, each kept even if unused."""
    magnitudes = np.abs(values)
    delta = float32_below(0.7 * float(magnitudes.mean(dtype=np.float64)))
    alpha = float(magnitudes[magnitudes > delta].mean(dtype=np.float64))
    index = 1 + (values > delta).astype(np.int8) - (values < -delta).astype(np.int8)
    return encode(np.array([-alpha, 0, alpha], np.float32), index)
