"""Layers by the formula of SPEC.md, section Arithmetic, one output at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats.graph import LevelWeights, Quantization

Array = NDArray[Any]


def reduce_and_scale(
    codes: Array, weight: Array, levels: Array, multiplier: float, bias: Any, zero_point: int
) -> np.float32:
    """bias + sum over l ascending of float(multiplier * level[l]) * (S[l] - zero_point * n[l])."""
    y = np.float32(bias)
    for index, level in enumerate(levels):
        seen = codes[weight == index + 1]
        total = np.float32(int(seen.sum(dtype=np.int64)) - zero_point * len(seen))
        y += np.float32(multiplier * float(level)) * total
    return y


def fully_connected(
    x: Array, weight: LevelWeights, bias: Array | None, reads: Quantization
) -> NDArray[np.float32]:
    """Codes [N, K] to float32 [N, M]."""
    return conv(
        x[:, :, None, None], weight, bias, reads, (1, 1), (1, 1), (0, 0, 0, 0), 1
    )[:, :, 0, 0]  # fmt: skip


def conv(
    x: Array,
    weight: LevelWeights,
    bias: Array | None,
    reads: Quantization,
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    groups: int,
) -> NDArray[np.float32]:
    """Codes [N, C, H, W] to float32 [N, M, OH, OW]; padding counts as code zero_point."""
    codes = weight.decode().to_dense()
    kernel = weight.shape[2:] or (1, 1)
    outputs, channels = weight.shape[:2]
    multiplier = np.full(outputs, reads.scale, np.float64)
    if weight.gain is not None:
        multiplier = multiplier * weight.gain
    top, left, bottom, right = pads
    plane = np.pad(
        x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=reads.zero_point
    )
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    places = [(n - s) // t + 1 for n, s, t in zip(plane.shape[2:], spans, strides, strict=True)]
    y = np.empty((len(x), outputs, *places), np.float32)
    for n, m, r, c in np.ndindex(y.shape):
        first = m // (outputs // groups) * channels
        rows = slice(r * strides[0], r * strides[0] + spans[0], dilations[0])
        columns = slice(c * strides[1], c * strides[1] + spans[1], dilations[1])
        y[n, m, r, c] = reduce_and_scale(
            plane[n, first : first + channels, rows, columns].reshape(-1),
            codes[m], weight.row_levels[m], float(multiplier[m]),
            0 if bias is None else bias[m], reads.zero_point,
        )  # fmt: skip
    return y


def conv_float64(x, weight, bias, strides, dilations, pads, groups):
    """Add up the kernel's elements, one after the other, in float64."""
    top, left, bottom, right = pads
    plane = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    outputs, channels, *kernel = weight.shape
    spans = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    total = 0
    for i, j in np.ndindex(*kernel):
        rows, columns = i * dilations[0], j * dilations[1]
        seen = plane[:, :, rows : plane.shape[2] - spans[0] + rows : strides[0]]
        seen = seen[..., columns : plane.shape[3] - spans[1] + columns : strides[1]]
        seen = seen.reshape(len(x), groups, channels, *seen.shape[2:])
        rows_of_group = weight[:, :, i, j].reshape(groups, -1, channels).astype(np.float64)
        total = total + np.einsum("gmc,ngcrq->ngmrq", rows_of_group, seen)
    return total.reshape(len(x), outputs, *total.shape[3:]) + bias[:, None, None]
