"""Operations on the bits of vectors: logic of three operands, counts, bits taken out."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from .simd import I8, I16, I32, I64, NOTHING, Emit, at, emitted, joined, shuffled, splat


def _has_avx512() -> bool:
    """Say whether the CPU that Numba compiles for, by its settings or this one, has AVX-512."""
    settings: Any = config
    if settings.CPU_NAME or settings.CPU_FEATURES:
        return "+avx512bw" in (settings.CPU_FEATURES or "")
    return bool(get_host_cpu_features().get("avx512bw"))


_AVX512 = _has_avx512()


def _of_three_bits(table: int, generic: Emit) -> Any:
    """Return an intrinsic for a function of three bits, which AVX-512 has in one instruction."""

    @intrinsic
    def function(context, x, y, z):
        def emit(b: Any, *given: Any) -> Any:
            if not _AVX512 or x.lanes % 64:
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


@intrinsic
def count_bits(context, x):
    """Return how many bits of each lane are set."""

    def emit(b: Any, x: Any) -> Any:
        kind = ir.FunctionType(x.type, [x.type])
        name = f"llvm.ctpop.v{x.type.count}i{x.type.element.width}"
        return b.call(cgutils.get_or_insert_function(b.module, kind, name), [x])

    return x(x), emitted(emit)


@intrinsic
def total(context, x):
    """Return the sum of all lanes of u64."""
    return types.int64(x), emitted(lambda b, x: _reduced(b, x))


@intrinsic
def total_bytes(context, x):
    """Return the sum of up to 256 lanes of u8."""

    def emit(b: Any, x: Any) -> Any:
        return b.zext(_reduced(b, b.zext(x, ir.VectorType(I16, x.type.count))), I64)

    return types.int64(x), emitted(emit)


def _reduced(b: Any, x: Any) -> Any:
    kind = ir.FunctionType(x.type.element, [x.type])
    name = f"llvm.vector.reduce.add.v{x.type.count}i{x.type.element.width}"
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), [x])


@intrinsic
def store_bit(context, address, x, bit):
    """Store one bit of each of 64 bytes, that of the first byte lowest."""

    def emit(b: Any, address: Any, x: Any, bit: Any) -> Any:
        one = b.shl(ir.Constant(I8, 1), b.trunc(bit, I8))
        here = b.and_(x, splat(b, one, x.type.count))
        mask = b.icmp_unsigned("!=", here, ir.Constant(x.type, None))
        b.store(b.bitcast(mask, I64), at(b, address, I64), align=1)
        return NOTHING

    return types.void(types.int64, x, types.int64), emitted(emit)
