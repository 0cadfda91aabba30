"""Logic of three operands on the bits of vectors."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from .cpu import AVX512
from .simd import I8, I32, Emit, emitted, joined, shuffled


def _of_three_bits(table: int, generic: Emit) -> Any:
    """Return an intrinsic for a function of three bits, which AVX-512 has in one instruction."""

    @intrinsic
    def function(context, x, y, z):
        def emit(b: Any, *given: Any) -> Any:
            if not AVX512 or x.lanes % 64:
                return generic(b, *given)
            word = ir.VectorType(I32, 16)
            kind = ir.FunctionType(word, [word, word, word, I32])
            name = "llvm.x86.avx512.pternlog.d.512"
            ternary = cgutils.get_or_insert_function(b.module, kind, name)
            parts = []
            for first in range(0, x.lanes, 64):
                places = list(range(first, first + 64))
                words = [b.bitcast(shuffled(b, v, v, places), word) for v in given]
                part = b.call(ternary, [*words, ir.Constant(I32, table)])
                parts.append(b.bitcast(part, ir.VectorType(I8, 64)))
            return joined(b, parts)

        return x(x, y, z), emitted(emit)

    return function


parity = _of_three_bits(0x96, lambda b, x, y, z: b.xor(b.xor(x, y), z))
majority = _of_three_bits(0xE8, lambda b, x, y, z: b.or_(b.and_(x, y), b.and_(z, b.xor(x, y))))
"""Of each three bits, their sum modulo 2, and whether two or more are set."""
