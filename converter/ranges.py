"""Rules that turn samples of a value into the scale and zero point of its codes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.errors import InputError
from deepchip.formats.graph import Quantization

F32 = NDArray[np.float32]
Choose = Callable[[F32, int], Quantization]
"""From samples (float32 [n]) and bits to a quantization."""

CANDIDATES = 80
"""Ranges that `least_squares` tries: fractions of the range of all samples, evenly spaced."""


class Reservoir:
    """Keeps about `most` of `total` numbers, taken at even steps, whatever slices they come in."""

    def __init__(self, total: int, most: int) -> None:
        # An odd step meets every column of a plane whose width is a power of two.
        self._step = max(1, -(-total // most)) | 1
        self._next = 0
        self._kept: list[F32] = []

    def add(self, values: F32) -> None:
        """Take the samples that fall into the next `values`."""
        flat = values.reshape(-1)
        self._kept.append(flat[self._next :: self._step].copy())
        self._next = (self._next - flat.size) % self._step if flat.size else self._next

    def samples(self) -> F32:
        """Return what was kept, float32 [n]."""
        return np.concatenate(self._kept) if self._kept else np.zeros(0, np.float32)


def from_range(low: float, high: float, bits: int) -> Quantization:
    """Return the form whose codes span [low, high], zero among them.

    A range on one side of zero puts zero at its end, so that no code is spent on the other side.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    steps = (1 << bits) - 1
    scale = np.float32((high - low) / steps)
    scale = np.float32(np.clip(scale, 2.0**-100, 2.0**100)) if scale else np.float32(1)
    zero_point = int(np.clip(np.rint(-low / float(scale)), 0, steps))
    return Quantization(float(scale), zero_point, bits)


def percentile(p: float) -> Choose:
    """Return the rule that clips what lies beyond the `p`-th percentile, on each side of zero."""
    if not 50 < p <= 100:
        raise InputError(f"percentile {p} of calibration, expected above 50 and at most 100")

    def choose(samples: F32, bits: int) -> Quantization:
        low, high = np.percentile(samples, [100 - p, p])
        return from_range(float(low), float(high), bits)

    return choose


def least_squares(samples: F32, bits: int) -> Quantization:
    """Return the form with the least squared error over the samples.

    Both ends of the range shrink together; Banner et al., Post Training 4-bit Quantization of
    Convolutional Networks, NeurIPS 2019, section 3, choose the clip by the same error, there from a
    fitted distribution instead of the samples.
    """
    points, counts = _binned(samples)
    low, high = float(points[0]), float(points[-1])

    def error(form: Quantization) -> float:
        steps = np.rint(points / form.scale) + form.zero_point
        real = (np.clip(steps, 0, form.maximum) - form.zero_point) * form.scale
        return float(counts @ (points - real) ** 2)

    fractions = np.arange(1, CANDIDATES + 1) / CANDIDATES
    return min((from_range(low * f, high * f, bits) for f in fractions), key=error)


def _binned(samples: F32) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return at most 8192 ascending points and how many samples each stands for."""
    counts, edges = np.histogram(samples, bins=8192)
    middles = (edges[:-1] + edges[1:]) / 2
    present = counts > 0
    points = middles[present]
    # The ends stay what they were, so that the widest range holds every sample.
    points[0], points[-1] = samples.min(), samples.max()
    return points, counts[present].astype(np.float64)


def parse(text: str) -> Choose:
    """Return the rule named "mse", "percentile" (of 99.99) or "percentile:P"."""
    name, _, number = text.partition(":")
    if text == "mse":
        return least_squares
    try:
        if name == "percentile":
            return percentile(float(number or 99.99))
    except ValueError:
        pass
    raise InputError(f"calibration rule {text!r}, expected mse, percentile or percentile:P")
