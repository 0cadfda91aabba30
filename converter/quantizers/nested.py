"""nested: L nonzero levels and zero, by dividing intervals at their means.

Nested means (Scripter, *Nested-Means Map Classes for Statistical Maps*, Annals of the Association
of American Geographers 60(2), 1970) are what Schindler, Roth, Pernkopf, Fröning, *N-Ary
Quantization for CNN Model Compression and Inference Acceleration*, 2018, cluster weights by, with
levels that are then trained. Here the levels are the means: the magnitudes of each sign divide at
their mean, the parts at theirs, and the innermost part is zero. L = 2 is ternary, 3 quaternary
(plus or minus, by the sign that gets two levels), 4 quinary. The part whose division takes most off
the squared error divides next, so that any L has one answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepchip.converter.quantizers.levels import BLOCK, Codes, Floats, encode, float32_below
from deepchip.formats.once import once


@dataclass(frozen=True, eq=False)
class _Part:
    """Magnitudes of one sign that share a level, or, if `inner`, become zero."""

    magnitudes: Floats
    inner: bool

    @once
    def mean(self) -> float:
        """The mean, 0 of no magnitudes."""
        size = self.magnitudes.size
        return float(self.magnitudes.sum(dtype=np.float64)) / size if size else 0.0

    @once
    def divided(self) -> tuple[_Part, _Part]:
        """The magnitudes below the mean, and the others."""
        # Rounding must not lift the mean of equal magnitudes above them.
        bound = min(-float32_below(-self.mean), self.magnitudes.max(initial=0))
        above = self.magnitudes >= bound
        return _Part(self.magnitudes[~above], self.inner), _Part(self.magnitudes[above], False)

    @once
    def gain(self) -> float:
        """What dividing takes off the squared error."""
        below, above = self.divided
        if self.inner:
            return above.magnitudes.size * above.mean**2
        share = below.magnitudes.size / max(1, self.magnitudes.size)
        return share * above.magnitudes.size * (above.mean - below.mean) ** 2


def quantize(values: Floats, levels: int) -> tuple[Floats, Codes]:
    """Quantize `values` [N] to zero and at most `levels` other levels.

    A weight that equals the mean at which its part divides goes outwards.
    """
    negative = [_Part(-values[values < 0], True)]
    positive = [_Part(values[values > 0], True)]
    for _ in range(levels):
        gains = [[part.gain for part in side] for side in (negative, positive)]
        side = negative if max(gains[0]) > max(gains[1]) else positive
        widest = max(range(len(side)), key=lambda i: side[i].gain)
        if side[widest].gain == 0:
            break
        side[widest : widest + 1] = side[widest].divided
    table = [-part.mean for part in negative[:0:-1]] + [0.0] + [part.mean for part in positive[1:]]
    return encode(np.array(table, np.float32), _indices(values, negative, positive))


def _indices(values: Floats, negative: list[_Part], positive: list[_Part]) -> Codes:
    """Return the entry of the table that each value takes."""
    below, above = (
        np.array([part.magnitudes.min() for part in side[1:]], np.float32)
        for side in (negative, positive)
    )
    index = np.empty(values.size, np.uint8)
    for start in range(0, values.size, BLOCK):
        block = values[start : start + BLOCK]
        outwards = np.searchsorted(above, block, side="right")
        inwards = below.size - np.searchsorted(below, -block, side="right")
        index[start : start + BLOCK] = inwards + outwards
    return index
