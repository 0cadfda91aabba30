"""Reduce and scale: sum the inputs of each level, then multiply once by the level.

Schindler, Zöhrer, Pernkopf, Fröning, Towards Efficient Forward Propagation on Resource-Constrained
Systems, ECML-PKDD 2018: c = Wp * sum(a[Ip]) - Wn * sum(a[In]), here for any number of levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.errors import UnsupportedError
from deepchip.formats.graph import LevelWeights, Quantization, Tensor

from .matmul import matmul

MAX_DENSE = 2**28
MAX_ROWS = 2**14
"""Rows of weights that are decoded at a time, to look for damage."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class Levels:
    """Scaled levels, worked out where they are asked for: a file may declare millions for nothing.

    Attributes
    ----------
    factor : float64 [M], of each row
    levels : float32 [M, L]
    """

    factor: NDArray[np.float64]
    levels: NDArray[np.float32]

    def of(self, rows: NDArray[Any] | slice, which: NDArray[Any] | int) -> NDArray[np.float32]:
        """Return float32(factor * level), rounded once, of these rows, the `which`-th of each."""
        with np.errstate(over="ignore"):  # scales 2**200 apart are legal, if of no use
            return (self.factor[rows] * self.levels[rows, which]).astype(np.float32)

    def table(self) -> NDArray[np.float32]:
        """Return all of them, float32 [M, L]."""
        with np.errstate(over="ignore"):
            return (self.factor[:, None] * self.levels).astype(np.float32)


def reduce_and_scale(
    weight: LevelWeights,
    levels: Levels,
    shift: NDArray[np.float32],
    quantization: Quantization,
    groups: int = 1,
) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """Return a function from inputs [N, groups, K, P] to float32 [N, M, P].

    The result is shift + the sum over l ascending of levels[l] * (S[l] - zero_point * n[l]), where
    S[l] is the sum of the inputs at level l and n[l] how many there are.

    Parameters
    ----------
    weight : M rows of K codes
    levels, shift : see `scaling`
    quantization : what uint8 inputs mean

    Notes
    -----
    Over codes the sums are exact: products with 0 and 1, and sums below 2**24 (2**53) in float32
    (float64). What follows is float32 in one order, so every backend gives the same bits.
    """
    dense = _when_called(weight, lambda: weight.decode().to_dense())
    outputs, inputs = weight.shape[0], prod(weight.shape[1:])
    exact = np.float64 if 255 * inputs >= 2**24 else np.float32
    zero_point = quantization.zero_point

    def run(x: NDArray[Any]) -> NDArray[np.float32]:
        codes, x = dense(), x.astype(exact)
        total = np.tile(shift[:, None], (len(x), 1, x.shape[-1]))
        for level in range(levels.levels.shape[-1]):
            member = codes == level + 1
            by_group = member.reshape(groups, outputs // groups, inputs).astype(exact)
            sums = matmul(by_group, x).reshape(total.shape)
            sums -= (zero_point * member.sum(axis=1))[:, None]
            total += levels.of(slice(None), level)[:, None] * sums.astype(np.float32)
        return total

    return run


def _when_called(weight: LevelWeights, make: Callable[[], Made]) -> Callable[[], Made]:
    """Return a function that gives what `make` gives, made once. Damaged weights are found now.

    Dense weights may be much larger than their file: those of a network that is only loaded are
    never there.
    """
    for _ in weight.rows(MAX_ROWS):
        pass
    return cache(make)


def _check_dense(weight: LevelWeights) -> None:
    if prod(weight.shape) > MAX_DENSE:
        raise UnsupportedError(
            f"backend 'numpy' holds weights dense, at most {MAX_DENSE} of a layer; this one has "
            f"{prod(weight.shape)}"
        )


def scaling(
    weight: LevelWeights,
    bias: NDArray[np.float32] | None,
    reads: Quantization | None,
    gives: Quantization | None,
) -> tuple[Levels, NDArray[np.float32]]:
    """Return the scaled levels and the shift, float32 [M], of the output channels.

    The sums of a row's levels, times its scaled levels, plus its shift, are the layer's output, or
    where it gives codes the output over their scale: levels = level * gain * scale / scale of the
    output, shift = bias / scale of the output, each rounded once. So giving codes takes neither a
    division nor a multiplication of its own.
    """
    unit = np.float64(gives.scale if gives else 1.0)
    factor = np.full(weight.shape[0], (reads.scale if reads else 1.0) / unit)
    if weight.gain is not None:
        factor *= weight.gain
    shift = np.zeros(len(factor)) if bias is None else bias / unit
    with np.errstate(over="ignore"):
        return Levels(factor, weight.row_levels), shift.astype(np.float32)


def residual_scaling(
    adds: Quantization | None, gives: Quantization | None
) -> tuple[np.float32, np.float32]:
    """Return scale and zero point of a residual: float(code - zero point) * scale is added.

    Parameters
    ----------
    adds : what uint8 residuals mean; None for float32 ones, which count as codes of scale 1
    gives : the form of the output; None for float32

    Notes
    -----
    Where the layer gives codes, this is the scale of the residual over that of the output, rounded
    once, because `scaling` gives the output over its scale.
    """
    scale = (adds.scale if adds else 1.0) / np.float64(gives.scale if gives else 1.0)
    with np.errstate(over="ignore"):
        return scale.astype(np.float32), np.float32(adds.zero_point if adds else 0)


def product(
    weight: Tensor,
    bias: NDArray[np.float32] | None,
    reads: Quantization | None,
    gives: Quantization | None,
    groups: int = 1,
) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """Return a function from inputs [N, groups, K, P] to the scaled and shifted [N, M, P].

    Over float32 the order of sums is free, and one product takes the place of a sum for each level.
    What is no entry of weights of levels adds nothing, also to infinity; 0.0 among floats does.
    """
    by_group = (groups, weight.shape[0] // groups, -1)
    shift = np.zeros(weight.shape[0], np.float32) if bias is None else bias
    if not isinstance(weight, LevelWeights):
        rows = weight.reshape(by_group)
        return lambda x: matmul(rows, x).reshape(len(x), len(shift), -1) + shift[:, None]
    _check_dense(weight)
    if reads is not None:
        levels, shift = scaling(weight, bias, reads, gives)
        return reduce_and_scale(weight, levels, shift, reads, groups)
    dense = _when_called(weight, lambda: (weight.to_dense(), weight.decode().to_dense() != 0))

    def run(x: NDArray[Any]) -> NDArray[np.float32]:
        rows, entries = (array.reshape(by_group) for array in dense())
        finite = np.isfinite(x)
        total = matmul(rows, np.where(finite, x, np.float32(0)))
        if not finite.all():
            total += _beyond(rows, entries, x)
        return total.reshape(len(x), len(shift), -1) + shift[:, None]

    return run


def _beyond(
    rows: NDArray[np.float32], entries: NDArray[np.bool_], x: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return what infinities and NaN in `x` add to products: infinity, NaN or 0.

    Parameters
    ----------
    rows, entries : [groups, M, K], weights and whether there is one
    """

    def meet(weights: NDArray[np.bool_], inputs: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return matmul(weights.astype(np.float32), inputs.astype(np.float32)) > 0

    up, down = x == np.inf, x == -np.inf
    positive = meet(rows > 0, up) | meet(rows < 0, down)
    negative = meet(rows > 0, down) | meet(rows < 0, up)
    neither = meet(entries, np.isnan(x)) | meet(entries & (rows == 0), up | down)
    found = np.where(positive, np.inf, np.where(negative, -np.inf, 0))
    return np.where(neither | (positive & negative), np.nan, found).astype(np.float32)
