"""Vectors of bytes looked up in a table of 16, by the byte shuffle of the CPU, and such tables."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from .cpu import NEON, has
from .simd import I8, I32, Vector, emitted, joined, shuffled, splat

NIBBLE = 4
"""Bits that choose one of the 16 bytes of a table, and inputs whose subsets are in a table."""
TABLE = 2**NIBBLE


def _shuffles() -> dict[int, str]:
    """Return LLVM's names of the CPU's shuffles by how many bytes they look up.

    Those of more than 16 look up each 16 in a table of its own. LLVM finds that of 16 on x86 by
    itself, where there is one (SSSE3).
    """
    if NEON:
        return {16: "llvm.aarch64.neon.tbl1.v16i8"}
    names = {"avx2": (32, "llvm.x86.avx2.pshuf.b"), "avx512bw": (64, "llvm.x86.avx512.pshuf.b.512")}
    return dict(name for feature, name in names.items() if has(feature))


_SHUFFLES = _shuffles()


@intrinsic
def look_up(context, table, index):
    """Return the bytes of a table of 16 at these places, each less than 16."""

    def emit(b: Any, table: Any, index: Any) -> Any:
        size = max((size for size in _SHUFFLES if size <= index.type.count), default=TABLE)
        one = shuffled(b, table, table, [place % TABLE for place in range(size)])
        parts = []
        for first in range(0, index.type.count, size):
            places = shuffled(b, index, index, list(range(first, first + size)))
            parts.append(_shuffle(b, one, places))
        return joined(b, parts)

    return index(table, index), emitted(emit)


def _shuffle(b: Any, table: Any, places: Any) -> Any:
    """Return what the CPU's shuffle of so many bytes gives, or the same byte by byte."""
    if places.type.count in _SHUFFLES:
        kind = ir.FunctionType(places.type, [places.type] * 2)
        name = _SHUFFLES[places.type.count]
        return b.call(cgutils.get_or_insert_function(b.module, kind, name), [table, places])
    found = ir.Constant(places.type, ir.Undefined)
    for lane in range(places.type.count):
        at = ir.Constant(I32, lane)
        place = b.zext(b.extract_element(places, at), I32)
        found = b.insert_element(found, b.extract_element(table, place), at)
    return found


@intrinsic
def low_nibbles(context, x):
    """Return x modulo 16."""
    return x(x), emitted(lambda b, x: b.and_(x, splat(b, ir.Constant(I8, TABLE - 1), x.type.count)))


@intrinsic
def high_nibbles(context, x):
    """Return x divided by 16."""
    return x(x), emitted(lambda b, x: b.lshr(x, splat(b, ir.Constant(I8, NIBBLE), x.type.count)))


@intrinsic
def subset_sums(context, x):
    """Return a table for each four bytes: at place s the sum of those whose bit is set in s."""
    vector = Vector("u8", TABLE // NIBBLE * x.lanes)

    def emit(b: Any, x: Any) -> Any:
        sums = ir.Constant(vector.ir, None)
        for bit in range(NIBBLE):
            given = [place // TABLE * NIBBLE + bit for place in range(vector.lanes)]
            chosen = [-(place >> bit & 1) for place in range(vector.lanes)]
            byte = shuffled(b, x, x, given)
            sums = b.add(sums, b.and_(byte, ir.Constant(vector.ir, chosen)))
        return sums

    return vector(x), emitted(emit)
