"""Levels and codes: what every weight quantizer produces, and how a matrix is split into groups.

A method sees one group of weights at a time, flat: the whole layer, or one output channel. It
returns the levels of that group and one code a weight, or None where the layer must stay float.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deepchip.formats.errors import InputError

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Method = Callable[[Floats], "tuple[Floats, Codes] | None"]

MAX_LEVELS = 255
BLOCK = 1 << 16  # weights handled at a time, so that temporaries stay small on any layer


@dataclass(frozen=True, eq=False)
class Levels:
    """A quantized weight matrix [M, K]; row = output channel.

    Attributes
    ----------
    levels : float32 [L] (per layer) or [M, L] (per output channel), 0 <= L <= 255
        Finite and never zero, ascending within a row. A channel that needs fewer than L levels
        repeats its last one; a channel whose weights are all zero holds 1.0 throughout.
    codes : uint8 [M, K]
        0 is a zero weight; c >= 1 is the weight `levels[..., c - 1]`.

    Raises
    ------
    InputError
        If the arrays contradict the above.
    """

    levels: Floats
    codes: Codes

    def __post_init__(self) -> None:
        """Refuse arrays that no quantizer may produce."""
        levels, codes = self.levels, self.codes
        if levels.dtype != np.float32 or codes.dtype != np.uint8 or codes.ndim != 2:
            raise InputError(
                f"levels are {levels.dtype} and codes {codes.dtype} {codes.shape}; "
                "expected float32 and a uint8 matrix"
            )
        if levels.ndim not in (1, 2) or levels.shape[:-1] not in ((), codes.shape[:1]):
            raise InputError(
                f"levels have shape {levels.shape} for codes {codes.shape}; expected [L] or [M, L]"
            )
        count = levels.shape[-1]
        if count > MAX_LEVELS or codes.max(initial=0) > count:
            raise InputError(
                f"{count} levels with codes up to {codes.max(initial=0)}; "
                f"expected at most {MAX_LEVELS} levels, and a level for every code"
            )
        ascending = bool((levels[..., 1:] >= levels[..., :-1]).all())
        if not (ascending and np.isfinite(levels).all() and levels.all()):
            raise InputError("levels must be finite, nonzero and ascending")

    @property
    def bits(self) -> int:
        """Bits that a fixed-length code of one weight takes: ceil(log2(L + 1))."""
        return int(self.levels.shape[-1]).bit_length()

    def dequantize(self) -> Floats:
        """Return the weights that the codes stand for: float32 [M, K]."""
        zero = np.zeros((*self.levels.shape[:-1], 1), np.float32)
        table = np.concatenate([zero, self.levels], axis=-1)
        if table.ndim == 1:
            return table[self.codes]
        weights = np.empty(self.codes.shape, np.float32)
        for row, row_table, row_codes in zip(weights, table, self.codes, strict=True):
            row[:] = row_table[row_codes]
        return weights


def quantize_groups(weights: Floats, method: Method, per_channel: bool) -> Levels | None:
    """Apply `method` to the whole matrix [M, K], or to each row; None if it declines any group.

    A group of zeros only has no levels and is not shown to `method`.
    """
    codes = np.zeros(weights.shape, np.uint8)
    groups = (weights, codes) if per_channel else (weights.reshape(1, -1), codes.reshape(1, -1))
    tables = []
    for values, group_codes in zip(*groups, strict=True):
        levels = np.empty(0, np.float32)
        if values.any():
            quantized = method(values)
            if quantized is None:
                return None
            levels, group_codes[:] = quantized
        tables.append(levels)
    return Levels(_padded(tables) if per_channel else tables[0], codes)


def _padded(tables: list[Floats]) -> Floats:
    """Stack one table a channel to [M, L], padded as `Levels` says."""
    width = max((table.size for table in tables), default=0)
    levels = np.ones((len(tables), width), np.float32)
    for row, table in zip(levels, tables, strict=True):
        row[: table.size] = table
        row[table.size :] = table[-1] if table.size else 1
    return levels


def encode(table: Floats, index: npt.NDArray[np.integer]) -> tuple[Floats, Codes]:
    """Drop the zeros of a table, and give each weight its code.

    Parameters
    ----------
    table : float32 [T], ascending, T <= 256, any number of them zero
    index : integer [N], the entry of `table` that each weight takes

    Returns
    -------
    levels : float32 [L], the nonzero entries
    codes : uint8 [N]
    """
    nonzero = table != 0
    codes = np.where(nonzero, np.cumsum(nonzero), 0).astype(np.uint8)
    return table[nonzero], codes[index]


def nearest(table: Floats, values: Floats) -> Codes:
    """Return, for each of `values` [N], the index of the nearest entry of an ascending `table` [T].

    A value half way between two entries takes the lower. 1 <= T <= 256.
    """
    bounds = float32_below((table[:-1].astype(np.float64) + table[1:]) / 2)
    index = np.empty(values.size, np.uint8)
    for start in range(0, values.size, BLOCK):
        block = values[start : start + BLOCK]
        index[start : start + BLOCK] = np.searchsorted(bounds, block, side="left")
    return index


def float32_below(bounds: npt.ArrayLike) -> Floats:
    """Return the largest float32 not above each bound.

    A float32 v exceeds a float64 bound exactly if it exceeds this, whatever type NumPy compares in.
    """
    exact = np.asarray(bounds, np.float64)
    rounded = exact.astype(np.float32)
    return np.nextafter(rounded, np.float32(-np.inf), out=rounded, where=rounded > exact)
