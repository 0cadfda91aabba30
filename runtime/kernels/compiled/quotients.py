"""Codes of vectors of numbers: divided by a scale, rounded.

A division takes a CPU as long as ten products or more, and the divisor is known when a model is
planned. With its reciprocal in two float32, a product and a fused multiply-add give the quotient
to half a unit in the last place and 2**-24 of one more (Brisebarre, Muller and Raina, Accelerating
correctly rounded floating-point division when the divisor is known in advance, IEEE Transactions
on Computers 53 (8), 2004). A code can only differ from that of the division where x / scale is as
close as this to half a unit beside n + 1/2. There are a thousand such pairs, whatever the
exponents; a test enumerates them, and all give the same code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from deepchip.formats.graph import Quantization

from .cpu import NEON, has
from .each import inlined
from .reals import clip, round_codes
from .simd import emitted, splat

FUSED = NEON or has("fma")
"""Whether the CPU multiplies and adds with one rounding."""
DIVISOR: dict[str, Any] = {"scale": "f4", "inverse": "f4", "rest": "f4", "low": "f4", "high": "f4"}
"""Fields of an operation that gives codes of numbers over `scale`.

Attributes
----------
inverse, rest : 1 / scale, and what is left of it
low, high : the bounds of the codes less their zero point: whole numbers
"""


def code_bounds(form: Quantization | None) -> dict[str, Any]:
    """Return what kernels that give codes need to know of them, or that they give none."""
    if form is None:
        return {"low": 0.0, "high": 0.0}
    return {"low": -form.zero_point, "high": form.maximum - form.zero_point}


def divisor(form: Quantization | None, scale: float) -> dict[str, Any]:
    """Return the fields `DIVISOR` for numbers over a scale; zeros where no codes are given."""
    if form is None:
        return dict.fromkeys(DIVISOR, 0.0)
    exact = 1 / np.float64(np.float32(scale))
    inverse = np.float32(exact)
    rest = np.float32(exact - inverse)
    return {"scale": scale, "inverse": inverse, "rest": rest, **code_bounds(form)}


@intrinsic
def _quotient(context, x, scale, inverse, rest):
    """Return x / scale, or what has the same code."""

    def emit(b: Any, x: Any, *numbers: Any) -> Any:
        scale, inverse, rest = (splat(b, number, x.type.count) for number in numbers)
        if not FUSED:
            return b.fdiv(x, scale)
        kind = ir.FunctionType(x.type, [x.type] * 3)
        fused = cgutils.get_or_insert_function(b.module, kind, f"llvm.fma.v{x.type.count}f32")
        return b.call(fused, [x, inverse, b.fmul(x, rest)])

    return x(x, types.float32, types.float32, types.float32), emitted(emit)


@inlined
def read_divisor(op):
    """Return the fields `DIVISOR` of an operation: once, as it could be written to otherwise."""
    return op.scale, op.inverse, op.rest, op.low, op.high


@inlined
def codes_of(x, by):
    """Return the codes of x / scale, u8; see `read_divisor`."""
    scale, inverse, rest, low, high = by
    if FUSED:  # clipped first: infinity times a negative rest is not infinity
        x = clip(x, scale * low, scale * high)
        return round_codes(_quotient(x, scale, inverse, rest), low)
    return round_codes(clip(_quotient(x, scale, inverse, rest), low, high), low)
