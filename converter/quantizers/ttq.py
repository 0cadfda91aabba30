"""ttq: ternary weights with a scale for each sign, after training.

Zhu, Han, Mao, Dally, *Trained Ternary Quantization*, ICLR 2017 (arXiv:1612.01064): the threshold
is a fraction t of the largest weight, 0.05 in the paper. The paper trains both scales; here they
are the means, which minimise the squared error for that threshold.
"""

from __future__ import annotations

import numpy as np

from deepchip.converter.quantizers.levels import Codes, Floats, encode, float32_below


def quantize(values: Floats, t: float) -> tuple[Floats, Codes]:
    """Quantize `values` [N], not all zero, to -Wn, 0 and +Wp, where 0 <= t < 1.

    Weights w with |w| <= t * max|w| become zero. A sign without a weight above the threshold has
    no level.
    """
    threshold = float32_below(t * float(np.abs(values).max()))
    negative, positive = values < -threshold, values > threshold
    scales = [_mean(values[negative]), 0.0, _mean(values[positive])]
    index = 1 + positive.astype(np.int8) - negative.astype(np.int8)
    return encode(np.array(scales, np.float32), index)


def _mean(values: Floats) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else 0.0
