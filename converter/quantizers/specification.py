"""What a user writes to choose a weight quantizer, such as "nary:16,per-channel".

To add a method: a file with `quantize(values[, argument])`, and a line in `_METHODS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from deepchip.converter.quantizers import (
    auto,
    binary,
    bwn,
    dorefa,
    inq,
    kmeans,
    lq,
    nary,
    nested,
    ttq,
    twn,
    uniform,
)
from deepchip.converter.quantizers.levels import Floats, Levels, quantize_groups
from deepchip.formats.errors import InputError, located


class _Argument(NamedTuple):
    """The number after the colon: `low` <= value < `high`."""

    kind: type[int] | type[float]
    low: float
    high: float
    default: float | None = None


class _Method(NamedTuple):
    usage: str
    quantize: Callable[..., Any] | None
    argument: _Argument | None = None


_METHODS = {
    "auto": _Method("auto", auto.quantize),
    "ternary": _Method("ternary (ttq:0.05)", lambda values: ttq.quantize(values, 0.05)),
    "ttq": _Method("ttq[:t] (0 <= t < 1)", ttq.quantize, _Argument(float, 0, 1, default=0.05)),
    "twn": _Method("twn", twn.quantize),
    "binary": _Method("binary", binary.quantize),
    "bwn": _Method("bwn", bwn.quantize),
    "nary": _Method("nary:L (L 1 to 255)", nary.quantize, _Argument(int, 1, 256)),
    "nested": _Method("nested:L (L 1 to 255)", nested.quantize, _Argument(int, 1, 256)),
    "kmeans": _Method("kmeans:L (L 1 to 255)", kmeans.quantize, _Argument(int, 1, 256)),
    "uniform": _Method("uniform:B (B 2 to 8)", uniform.quantize, _Argument(int, 2, 9)),
    "dorefa": _Method("dorefa:B (B 2 to 7)", dorefa.quantize, _Argument(int, 2, 8)),
    "inq": _Method("inq:B (B 2 to 8)", inq.quantize, _Argument(int, 2, 9)),
    "lq": _Method("lq:B (B 1 to 7)", lq.quantize, _Argument(int, 1, 8)),
    "float": _Method("float", None),
}
_TEXT = re.compile(r"([a-z]+)(?::([0-9.e-]+))?(,per-channel)?")


@dataclass(frozen=True)
class Specification:
    """A quantizer and its settings; `parse` makes it, `str` gives the text back.

    Attributes
    ----------
    method : str, such as "nary"
    argument : int, float or None, the number after the colon
    per_channel : bool, whether every output channel has levels of its own
    """

    method: str
    argument: float | None = None
    per_channel: bool = False

    def __str__(self) -> str:
        """Return the text that `parse` reads as this."""
        number = "" if self.argument is None else f":{self.argument}"
        return f"{self.method}{number}{',per-channel' if self.per_channel else ''}"

    def quantize(self, weights: Floats, name: str) -> Levels | None:
        """Quantize the weights of one layer.

        Parameters
        ----------
        weights : float32 [M, K], row = output channel
        name : str, the layer's, for errors

        Returns
        -------
        Levels, or None if the layer stays float

        Raises
        ------
        InputError
            If `weights` is not a float32 matrix, or holds a NaN or an infinity.
        """
        with located(f"layer {name!r}"):
            if weights.ndim != 2 or weights.dtype != np.float32:
                raise InputError(
                    f"weights are {weights.dtype} {weights.shape}; "
                    "expected a float32 matrix, one row an output channel"
                )
            bad = weights.size - np.count_nonzero(np.isfinite(weights))
            if bad:
                raise InputError(
                    f"{bad} of {weights.size} weights are NaN or infinite; "
                    "export the network again from a sound checkpoint"
                )
        quantize, argument = _METHODS[self.method].quantize, self.argument
        if quantize is None:
            return None
        arguments = () if argument is None else (argument,)
        return quantize_groups(
            weights, lambda values: quantize(values, *arguments), self.per_channel
        )


def parse(text: str) -> Specification:
    """Read a specification: a method, its number after a colon, and perhaps ",per-channel".

    Raises
    ------
    InputError
        For anything else; the text lists what there is.

    Examples
    --------
    >>> parse("nary:16,per-channel")
    Specification(method='nary', argument=16, per_channel=True)
    >>> parse("ttq")
    Specification(method='ttq', argument=0.05, per_channel=False)
    """
    match = _TEXT.fullmatch(text)
    method = _METHODS.get(match[1]) if match else None
    if match is None or method is None:
        raise _refused(text, "not understood")
    if method.argument is None:
        if match[2] is not None:
            raise _refused(text, f"{match[1]} takes no number")
        return Specification(match[1], None, match[3] is not None)
    kind, low, high, default = method.argument
    try:
        number = default if match[2] is None else kind(match[2])
    except ValueError:
        number = None
    if number is None or not low <= number < high:
        raise _refused(text, f"expected {method.usage}")
    return Specification(match[1], number, match[3] is not None)


def _refused(text: str, fault: str) -> InputError:
    usages = ", ".join(method.usage for method in _METHODS.values())
    return InputError(
        f'weights {text[:80]!r}: {fault}; choose {usages}, or one with ",per-channel"'
    )
