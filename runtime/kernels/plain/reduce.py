"""Reduce and scale: sum the inputs of each level, then multiply once by the level.

Schindler, Zöhrer, Pernkopf, Fröning, Towards Efficient Forward Propagation on Resource-Constrained
Systems, ECML-PKDD 2018: c = Wp * sum(a[Ip]) - Wn * sum(a[In]), here for any number of levels.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.errors import UnsupportedError
from deepchip.formats.graph import LevelWeights, Quantization, Tensor

MAX_DENSE = 2**28


def reduce_and_scale(
    weight: LevelWeights, quantization: Quantization | None, groups: int = 1
) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """Return a function from inputs [N, groups, K, P] to float32 [N, M, P].

    The result is the sum over l ascending of level[l] * (S[l] - zero_point * n[l]), where S[l] is
    the sum of the inputs at level l and n[l] how many there are.

    Parameters
    ----------
    weight : M rows of K codes
    quantization : what uint8 inputs mean; None for float32 inputs

    Notes
    -----
    Over codes the sums are exact: products with 0 and 1, and sums below 2**24 (2**53) in float32
    (float64). What follows is float32 in one order, so every backend gives the same bits.
    """
    if prod(weight.shape) > MAX_DENSE:
        raise UnsupportedError(
            f"backend 'numpy' holds weights dense, at most {MAX_DENSE} of a layer; this one has "
            f"{prod(weight.shape)}"
        )
    codes = weight.decode().to_dense()
    outputs, inputs = codes.shape
    exact = np.float64 if quantization and 255 * inputs >= 2**24 else np.float32
    zero_point = 0 if quantization is None else quantization.zero_point

    def run(x: NDArray[Any]) -> NDArray[np.float32]:
        x = x.astype(exact)
        total = np.zeros((len(x), outputs, x.shape[-1]), np.float32)
        for level in range(weight.levels.shape[-1]):
            member = codes == level + 1
            by_group = member.reshape(groups, outputs // groups, inputs).astype(exact)
            sums = (by_group @ x).reshape(total.shape)
            sums -= (zero_point * member.sum(axis=1))[:, None]
            total += weight.row_levels[:, level, None] * sums.astype(np.float32)
        return total

    return run


def scaling(
    weight: LevelWeights,
    bias: NDArray[np.float32] | None,
    reads: Quantization | None,
    gives: Quantization | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return factor and shift of each output channel, float32 [M].

    What a row reduces to, times factor, plus shift, is the layer's output, or where it gives codes
    the output over their scale: factor = scale * gain / scale of the output, shift = bias / scale
    of the output, each rounded once. So giving codes takes no division.
    """
    scale = (reads.scale if reads else 1.0) / np.float64(gives.scale if gives else 1.0)
    rows = np.ones(weight.shape[0]) if weight.gain is None else weight.gain.astype(np.float64)
    shift = np.zeros(len(rows)) if bias is None else bias / np.float64(gives.scale if gives else 1)
    with np.errstate(over="ignore"):  # scales 2**200 apart are legal, if of no use
        return (rows * scale).astype(np.float32), shift.astype(np.float32)


def product(
    weight: Tensor,
    bias: NDArray[np.float32] | None,
    reads: Quantization | None,
    gives: Quantization | None,
    groups: int = 1,
) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """Return a function from inputs [N, groups, K, P] to the scaled and shifted [N, M, P]."""
    if isinstance(weight, LevelWeights):
        reduce = reduce_and_scale(weight, reads, groups)
        factor, shift = scaling(weight, bias, reads, gives)
        return lambda x: reduce(x) * factor[:, None] + shift[:, None]
    rows = weight.reshape(groups, len(weight) // groups, -1)
    shift = np.zeros(len(weight), np.float32) if bias is None else bias
    return lambda x: (rows @ x).reshape(len(x), len(weight), -1) + shift[:, None]
