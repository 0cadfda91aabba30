"""Vectors as values of Numba code: load, add, widen, convert, store.

A vector may have more lanes than a register; LLVM splits it into what the CPU has, so that one
source becomes AVX-512, AVX2 or NEON code. Kernels above read like the formula and name no width:
they are compiled for each `Width` that they are called with. Addresses are integers, in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32 = ir.FloatType()
_ELEMENTS = {"u8": _I8, "u16": _I16, "u32": _I32, "f32": _F32}

MAGIC = 1.5 * 2**23
"""Added to a float32 below 2**22 it rounds it to an integer, halves to even, which then stands in
the low bits of the sum."""


class Width(types.Type):
    """The Numba type of a value that says how many lanes there are, and holds nothing."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"width of {lanes} lanes")


class Vector(types.Type):
    """The Numba type of `lanes` numbers that are held in registers."""

    def __init__(self, kind: str, lanes: int) -> None:
        self.kind = kind
        self.lanes = lanes
        super().__init__(name=f"vector of {lanes} {kind}")


register_model(Width)(models.OpaqueModel)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, _ir(vector))


Emit = Callable[..., Any]


def _ir(vector: Vector) -> ir.VectorType:
    return ir.VectorType(_ELEMENTS[vector.kind], vector.lanes)


def _at(builder: Any, address: Any, element: Any) -> Any:
    return builder.inttoptr(address, element.as_pointer())


def _splat(builder: Any, number: Any, lanes: int) -> Any:
    """Return a vector of one number."""
    many = ir.VectorType(number.type, lanes)
    first = builder.insert_element(ir.Constant(many, ir.Undefined), number, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, lanes), None)
    return builder.shuffle_vector(first, ir.Constant(many, ir.Undefined), zeros)


def _emitted(emit: Emit) -> Emit:
    """Return Numba's code generator for a function of builder and arguments."""
    return lambda context, builder, signature, arguments: emit(builder, *arguments)


def _width(lanes: int) -> Any:
    @intrinsic
    def width(context):
        return Width(lanes)(), lambda context, *rest: context.get_dummy_value()

    return width


w64, w128, w256 = _width(64), _width(128), _width(256)


@intrinsic
def lanes(context, width):
    """Return the number of lanes."""
    return types.intp(width), _emitted(lambda b, w: ir.Constant(_I64, width.lanes))


def _zero(kind: str, share: int = 1) -> Any:
    @intrinsic
    def zero(context, width):
        vector = Vector(kind, width.lanes // share)
        return vector(width), _emitted(lambda b, w: ir.Constant(_ir(vector), None))

    return zero


zero_u8, zero_u16, zero_u32, zero_f32 = map(_zero, ("u8", "u16", "u32", "f32"))
zero_pairs = _zero("u16", 2)


def _load(kind: str, share: int = 1) -> Any:
    @intrinsic
    def load(context, width, address):
        vector = Vector(kind, width.lanes // share)
        emit = _emitted(lambda b, w, a: b.load(_at(b, a, _ir(vector)), align=1))
        return vector(width, types.uintp), emit

    return load


load_u8, load_u16 = map(_load, ("u8", "u16"))
load_pairs = _load("u16", 2)


@intrinsic
def store(context, address, vector):
    """Store a vector."""

    def emit(b: Any, a: Any, v: Any) -> Any:
        b.store(v, _at(b, a, v.type), align=1)
        return ir.Constant(_I8.as_pointer(), None)

    return types.void(types.uintp, vector), _emitted(emit)


@intrinsic
def add(context, x, y):
    """Return x + y, modulo 2**bits."""
    return x(x, x), _emitted(lambda b, x, y: b.add(x, y))


@intrinsic
def widen_add(context, total, x):
    """Return total + x, where the lanes of total are wider."""
    return total(total, x), _emitted(lambda b, t, x: b.add(t, b.zext(x, t.type)))


@intrinsic
def high_bytes(context, pairs):
    """Return the high byte of each u16 lane."""

    def emit(b: Any, p: Any) -> Any:
        return b.lshr(p, _splat(b, ir.Constant(_I16, 8), p.type.count))

    return pairs(pairs), _emitted(emit)


@intrinsic
def unpair(context, whole, high):
    """Return sums of bytes, u16, from sums of pairs of bytes as u16 and of their high bytes."""
    vector = Vector("u16", 2 * whole.lanes)

    def emit(b: Any, w: Any, h: Any) -> Any:
        low = b.sub(w, b.shl(h, _splat(b, ir.Constant(_I16, 8), w.type.count)))
        order = [i // 2 + i % 2 * whole.lanes for i in range(vector.lanes)]
        return b.shuffle_vector(low, h, ir.Constant(ir.VectorType(_I32, vector.lanes), order))

    return vector(whole, high), _emitted(emit)


@intrinsic
def add_level(context, t, sums, absent, level):
    """Return t + level * float32(sums - absent)."""

    def emit(b: Any, t: Any, s: Any, absent: Any, level: Any) -> Any:
        n = t.type.count
        wide = ir.VectorType(_I32, n)
        s = s if s.type == wide else b.zext(s, wide)
        real = b.sitofp(b.sub(s, _splat(b, absent, n)), t.type)
        return b.fadd(t, b.fmul(_splat(b, level, n), real))

    return t(t, sums, types.int32, types.float32), _emitted(emit)


@intrinsic
def scale_shift(context, t, factor, shift):
    """Return t * factor + shift."""

    def emit(b: Any, t: Any, factor: Any, shift: Any) -> Any:
        n = t.type.count
        return b.fadd(b.fmul(t, _splat(b, factor, n)), _splat(b, shift, n))

    return t(t, types.float32, types.float32), _emitted(emit)


@intrinsic
def round_codes(context, q, low, high):
    """Return q clipped to integers low to high (NaN to low), rounded, minus low, as u8."""

    def emit(b: Any, q: Any, low: Any, high: Any) -> Any:
        n = q.type.count
        least, most = _splat(b, low, n), _splat(b, high, n)
        q = b.select(b.fcmp_ordered(">", q, least), q, least)
        q = b.select(b.fcmp_ordered("<", q, most), q, most)
        magic = _splat(b, ir.Constant(_F32, MAGIC), n)
        wide, narrow = ir.VectorType(_I32, n), ir.VectorType(_I8, n)
        code = b.trunc(b.bitcast(b.fadd(q, magic), wide), narrow)
        return b.sub(code, _splat(b, b.trunc(b.fptosi(low, _I32), _I8), n))

    return Vector("u8", q.lanes)(q, types.float32, types.float32), _emitted(emit)


@intrinsic
def keep(context, x, bits):
    """Return lane k of x where bit k of a 64-bit integer is set, and 0 elsewhere; 64 lanes."""

    def emit(b: Any, x: Any, bits: Any) -> Any:
        mask = b.bitcast(bits, ir.VectorType(ir.IntType(1), 64))
        return b.select(mask, x, ir.Constant(x.type, None))

    return x(x, types.uint64), _emitted(emit)


@intrinsic
def as_pairs(context, x):
    """Return the bytes of x as u16 lanes, two in one."""
    vector = Vector("u16", x.lanes // 2)
    return vector(x), _emitted(lambda b, x: b.bitcast(x, _ir(vector)))


@intrinsic
def total(context, x):
    """Return the sum of all lanes, as an integer; it must fit 32 bits."""

    def emit(b: Any, x: Any) -> Any:
        wide = ir.VectorType(_I32, x.type.count)
        x = x if x.type == wide else b.zext(x, wide)
        kind = ir.FunctionType(_I32, [wide])
        name = f"llvm.vector.reduce.add.v{x.type.count}i32"
        return b.zext(b.call(cgutils.get_or_insert_function(b.module, kind, name), [x]), _I64)

    return types.intp(x), _emitted(emit)


@intrinsic
def blend(context, x, mask, fill):
    """Return x where mask is 255, and the byte `fill` where it is 0."""

    def emit(b: Any, x: Any, mask: Any, fill: Any) -> Any:
        other = _splat(b, b.trunc(fill, _I8), x.type.count)
        return b.or_(b.and_(x, mask), b.and_(other, b.not_(mask)))

    return x(x, mask, types.intp), _emitted(emit)


@intrinsic
def load_index(context, address):
    """Return the uint16 at an address."""

    def emit(b: Any, a: Any) -> Any:
        return b.zext(b.load(_at(b, a, _I16), align=1), _I64)

    return types.intp(types.uintp), _emitted(emit)
