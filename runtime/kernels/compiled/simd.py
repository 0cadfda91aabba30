"""Vectors as values of Numba code: load, add, widen, convert, store.

A vector may have more lanes than a register; LLVM splits it into what the CPU has, so that one
source becomes AVX-512, AVX2 or NEON code. Kernels above read like the formula and name no width:
they are compiled for each `Width` that they are called with. Addresses are int64, in bytes: of the
sum of an unsigned and a signed integer Numba makes a float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32 = ir.FloatType()
_ELEMENTS = {"u8": _I8, "u16": _I16, "u32": _I32, "u64": _I64, "f32": _F32}

_AVX512 = bool(get_host_cpu_features().get("avx512bw"))

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


w16, w64, w128, w256 = map(_width, (16, 64, 128, 256))


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
zero_pairs, zero_octets = _zero("u16", 2), _zero("u64", 8)


def _load(kind: str, share: int = 1) -> Any:
    @intrinsic
    def load(context, width, address):
        vector = Vector(kind, width.lanes // share)
        emit = _emitted(lambda b, w, a: b.load(_at(b, a, _ir(vector)), align=1))
        return vector(width, types.int64), emit

    return load


load_u8, load_u16 = map(_load, ("u8", "u16"))
load_pairs, load_quarter, load_f32 = _load("u16", 2), _load("u32", 4), _load("f32")


@intrinsic
def store(context, address, vector):
    """Store a vector."""

    def emit(b: Any, a: Any, v: Any) -> Any:
        b.store(v, _at(b, a, v.type), align=1)
        return ir.Constant(_I8.as_pointer(), None)

    return types.void(types.int64, vector), _emitted(emit)


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
def divide(context, x, number):
    """Return x / number."""
    emit = _emitted(lambda b, x, number: b.fdiv(x, _splat(b, number, x.type.count)))
    return x(x, types.float32), emit


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
        q = _clip(b, q, low, high)
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

    return x(x, types.int64), _emitted(emit)


@intrinsic
def sum_octets(context, x):
    """Return the sum of each eight bytes of x, u64; 64 lanes."""
    vector = Vector("u64", x.lanes // 8)

    def emit(b: Any, x: Any) -> Any:
        if _AVX512:
            kind = ir.FunctionType(_ir(vector), [x.type, x.type])
            name = "llvm.x86.avx512.psad.bw.512"
            add = cgutils.get_or_insert_function(b.module, kind, name)
            return b.call(add, [x, ir.Constant(x.type, None)])
        for bits in (8, 16, 32):
            # Neighbours are added, and lanes are as many as half of those before.
            wide = ir.VectorType(
                ir.IntType(2 * bits), x.type.count * x.type.element.width // bits // 2
            )
            pairs = b.bitcast(x, wide)
            low = b.and_(pairs, _splat(b, ir.Constant(wide.element, 2**bits - 1), wide.count))
            x = b.add(low, b.lshr(pairs, _splat(b, ir.Constant(wide.element, bits), wide.count)))
        return x

    return vector(x), _emitted(emit)


@intrinsic
def as_pairs(context, x):
    """Return the bytes of x as u16 lanes, two in one."""
    vector = Vector("u16", x.lanes // 2)
    return vector(x), _emitted(lambda b, x: b.bitcast(x, _ir(vector)))


@intrinsic
def total(context, x):
    """Return the sum of all lanes of u64."""

    def emit(b: Any, x: Any) -> Any:
        kind = ir.FunctionType(_I64, [x.type])
        name = f"llvm.vector.reduce.add.v{x.type.count}i64"
        return b.call(cgutils.get_or_insert_function(b.module, kind, name), [x])

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

    return types.intp(types.int64), _emitted(emit)


def _integer(element: Any) -> Any:
    @intrinsic
    def load(context, address):
        emit = _emitted(lambda b, a: b.zext(b.load(_at(b, a, element), align=1), _I64))
        return types.int64(types.int64), emit

    return load


load_byte, load_four, load_eight = map(_integer, (_I8, _I32, _I64))


def _number(element: Any, number: Any) -> Any:
    @intrinsic
    def load(context, address):
        return number(types.int64), _emitted(lambda b, a: b.load(_at(b, a, element), align=4))

    return load


load_int, load_float = _number(_I32, types.int32), _number(_F32, types.float32)


@intrinsic
def even_bytes(context, whole, high):
    """Return sums of the low bytes of u16 lanes, from sums of the lanes and of their high bytes."""

    def emit(b: Any, w: Any, h: Any) -> Any:
        return b.sub(w, b.shl(h, _splat(b, ir.Constant(_I16, 8), w.type.count)))

    return whole(whole, high), _emitted(emit)


@intrinsic
def low_bytes(context, pairs):
    """Return the low byte of each u16 lane."""

    def emit(b: Any, p: Any) -> Any:
        return b.and_(p, _splat(b, ir.Constant(_I16, 255), p.type.count))

    return pairs(pairs), _emitted(emit)


def _times(power: int) -> Any:
    @intrinsic
    def times(context, x):
        def emit(b: Any, x: Any) -> Any:
            return b.shl(x, _splat(b, ir.Constant(x.type.element, power), x.type.count))

        return x(x), _emitted(emit)

    return times


twice, four_times = _times(1), _times(2)


def _ternary(table: int, generic: Callable[..., Any]) -> Any:
    """Return an intrinsic for a function of three bits, which AVX-512 has in one instruction."""

    @intrinsic
    def function(context, x, y, z):
        def emit(b: Any, *given: Any) -> Any:
            if not _AVX512 or x.lanes % 64:
                return generic(b, *given)
            word = ir.VectorType(_I32, 16)
            kind = ir.FunctionType(word, [word, word, word, _I32])
            ternary = cgutils.get_or_insert_function(
                b.module, kind, "llvm.x86.avx512.pternlog.d.512"
            )
            parts = []
            for first in range(0, x.lanes, 64):
                lanes = ir.Constant(ir.VectorType(_I32, 64), list(range(first, first + 64)))
                words = [b.bitcast(b.shuffle_vector(v, v, lanes), word) for v in given]
                part = b.call(ternary, [*words, ir.Constant(_I32, table)])
                parts.append(b.bitcast(part, ir.VectorType(_I8, 64)))
            return _joined(b, parts)

        return x(x, y, z), _emitted(emit)

    return function


def _joined(builder: Any, parts: list[Any]) -> Any:
    """Return vectors of one length, a power of two of them, end to end."""
    while len(parts) > 1:
        count = 2 * parts[0].type.count
        order = ir.Constant(ir.VectorType(_I32, count), list(range(count)))
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [builder.shuffle_vector(x, y, order) for x, y in pairs]
    return parts[0]


parity = _ternary(0x96, lambda b, x, y, z: b.xor(b.xor(x, y), z))
majority = _ternary(0xE8, lambda b, x, y, z: b.or_(b.and_(x, y), b.and_(z, b.xor(x, y))))


def _reals(shift: int, bits: int) -> Any:
    @intrinsic
    def biased(context, x, offset):
        lanes = x.lanes * _ELEMENTS[x.kind].width // 32
        vector = Vector("f32", lanes)

        def emit(b: Any, x: Any, offset: Any) -> Any:
            wide = b.bitcast(x, ir.VectorType(_I32, lanes))
            if shift:
                wide = b.lshr(wide, _splat(b, ir.Constant(_I32, shift), lanes))
            if shift + bits < 32:
                wide = b.and_(wide, _splat(b, ir.Constant(_I32, 2**bits - 1), lanes))
            wide = b.or_(wide, _splat(b, ir.Constant(_I32, 0x4B000000), lanes))
            return b.fsub(b.bitcast(wide, _ir(vector)), _splat(b, offset, lanes))

        return vector(x, types.float32), _emitted(emit)

    return biased


BIAS = 2.0**23
"""`reals_...(x, BIAS + z)` is x - z, exactly, as float32: x < 2**23 stands in the low bits of
BIAS + x."""

reals_low, reals_high = _reals(0, 16), _reals(16, 16)
reals_byte0, reals_byte1, reals_byte2, reals_byte3 = (_reals(8 * k, 8) for k in range(4))


def _halves(shift: int) -> Any:
    @intrinsic
    def half(context, pairs):
        vector = Vector("u32", pairs.lanes // 2)

        def emit(b: Any, x: Any) -> Any:
            wide = b.bitcast(x, _ir(vector))
            if shift:
                return b.lshr(wide, _splat(b, ir.Constant(_I32, 16), vector.lanes))
            return b.and_(wide, _splat(b, ir.Constant(_I32, 0xFFFF), vector.lanes))

        return vector(pairs), _emitted(emit)

    return half


low_halves, high_halves = _halves(0), _halves(1)


@intrinsic
def reals(context, x):
    """Return float32(x) of u32 sums, less than 2**31."""
    vector = Vector("f32", x.lanes)
    return vector(x), _emitted(lambda b, x: b.sitofp(x, _ir(vector)))


@intrinsic
def reals_from(context, x, absent):
    """Return float32(x - absent) of u32 sums, less than 2**31."""
    vector = Vector("f32", x.lanes)

    def emit(b: Any, x: Any, absent: Any) -> Any:
        return b.sitofp(b.sub(x, _splat(b, absent, x.type.count)), _ir(vector))

    return vector(x, types.int32), _emitted(emit)


@intrinsic
def add_scaled(context, t, x, factor):
    """Return t + x * factor."""

    def emit(b: Any, t: Any, x: Any, factor: Any) -> Any:
        return b.fadd(t, b.fmul(x, _splat(b, factor, x.type.count)))

    return t(t, x, types.float32), _emitted(emit)


@intrinsic
def clip_magic(context, q, low, high):
    """Return q clipped to integers low to high (NaN to low), plus MAGIC."""

    def emit(b: Any, q: Any, low: Any, high: Any) -> Any:
        n = q.type.count
        least, most = _splat(b, low, n), _splat(b, high, n)
        q = b.select(b.fcmp_ordered(">", q, least), q, least)
        q = b.select(b.fcmp_ordered("<", q, most), q, most)
        return b.fadd(q, _splat(b, ir.Constant(_F32, MAGIC), n))

    return q(q, types.float32, types.float32), _emitted(emit)


@intrinsic
def interleave_bytes(context, a, b, c, d):
    """Return the low bytes of a[0], b[0], c[0], d[0], a[1], ...: u8."""
    vector = Vector("u8", 4 * a.lanes)

    def emit(builder: Any, *parts: Any) -> Any:
        wide = ir.VectorType(_I32, a.lanes)
        words = [builder.bitcast(part, wide) for part in parts]
        byte = _splat(builder, ir.Constant(_I32, 255), a.lanes)
        joined = builder.and_(words[0], byte)
        for place, word in enumerate(words[1:], 1):
            low = builder.and_(word, byte)
            shift = _splat(builder, ir.Constant(_I32, 8 * place), a.lanes)
            joined = builder.or_(joined, builder.shl(low, shift))
        return builder.bitcast(joined, _ir(vector))

    return vector(a, b, c, d), _emitted(emit)


@intrinsic
def interleave(context, a, b, c, d):
    """Return a[0], b[0], c[0], d[0], a[1], ..."""
    vector = Vector(a.kind, 4 * a.lanes)

    def emit(builder: Any, *parts: Any) -> Any:
        order = [k % 4 * a.lanes + k // 4 for k in range(vector.lanes)]
        places = ir.Constant(ir.VectorType(_I32, vector.lanes), order)
        joined = _joined(builder, list(parts))
        return builder.shuffle_vector(joined, joined, places)

    return vector(a, b, c, d), _emitted(emit)


def _every_fourth(first: int) -> Any:
    @intrinsic
    def take(context, x):
        vector = Vector(x.kind, x.lanes // 4)

        def emit(b: Any, x: Any) -> Any:
            places = list(range(first, x.type.count, 4))
            return b.shuffle_vector(x, x, ir.Constant(ir.VectorType(_I32, len(places)), places))

        return vector(x), _emitted(emit)

    return take


fourth0, fourth1, fourth2, fourth3 = map(_every_fourth, range(4))


@intrinsic
def less(context, x, number):
    """Return x - number in each lane, modulo 2**bits."""

    def emit(b: Any, x: Any, number: Any) -> Any:
        return b.sub(x, _splat(b, b.trunc(number, x.type.element), x.type.count))

    return x(x, types.int64), _emitted(emit)


@intrinsic
def fill(context, width, number):
    """Return a quarter of the lanes, each a float32 `number`."""
    vector = Vector("f32", width.lanes // 4)
    emit = _emitted(lambda b, w, n: _splat(b, n, vector.lanes))
    return vector(width, types.float32), emit


def _round_quarters(small: bool) -> Any:
    @intrinsic
    def round_quarters(context, a, b, c, d, low, high):
        vector = Vector("u8", 4 * a.lanes)

        def emit(builder: Any, *given: Any) -> Any:
            *parts, low, high = given
            n = a.lanes
            wide, pairs = ir.VectorType(_I32, n), ir.VectorType(_I16, 2 * n)
            words = []
            for q in parts:
                if not small:
                    q = _clip(builder, q, low, high)
                magic = _splat(builder, ir.Constant(_F32, MAGIC), n)
                words.append(builder.bitcast(builder.fadd(q, magic), wide))
            low16 = _splat(builder, ir.Constant(_I32, 0xFFFF), n)
            sixteen = _splat(builder, ir.Constant(_I32, 16), n)
            halves = []
            for low_word, high_word in zip(words[:2], words[2:], strict=True):
                lower, upper = builder.and_(low_word, low16), builder.shl(high_word, sixteen)
                halves.append(builder.bitcast(builder.or_(lower, upper), pairs))
            if small:
                limits = [builder.fptosi(limit, _I16) for limit in (low, high)]
                halves = [_clip_integers(builder, half, *limits) for half in halves]
            low8 = _splat(builder, ir.Constant(_I16, 0xFF), 2 * n)
            eight = _splat(builder, ir.Constant(_I16, 8), 2 * n)
            lower, upper = builder.and_(halves[0], low8), builder.shl(halves[1], eight)
            codes = builder.bitcast(builder.or_(lower, upper), _ir(vector))
            zero = builder.trunc(builder.fptosi(low, _I32), _I8)
            return builder.sub(codes, _splat(builder, zero, 4 * n))

        return vector(a, b, c, d, types.float32, types.float32), _emitted(emit)

    return round_quarters


def _clip(builder: Any, q: Any, low: Any, high: Any) -> Any:
    """Return q within low to high, NaN as low."""
    least, most = (_splat(builder, limit, q.type.count) for limit in (low, high))
    q = builder.select(builder.fcmp_ordered(">", q, least), q, least)
    return builder.select(builder.fcmp_ordered("<", q, most), q, most)


def _clip_integers(builder: Any, x: Any, low: Any, high: Any) -> Any:
    least, most = (_splat(builder, limit, x.type.count) for limit in (low, high))
    x = builder.select(builder.icmp_signed(">", x, least), x, least)
    return builder.select(builder.icmp_signed("<", x, most), x, most)


round_quarters, round_small_quarters = _round_quarters(False), _round_quarters(True)
"""Of a[0], b[0], c[0], d[0], a[1], ... the codes, u8: clipped to integers low to high, NaN to low,
rounded, minus low. All but `round_quarters` need |x| < 2**15, and are clipped when rounded."""


def _every(step: int) -> Any:
    @intrinsic
    def load(context, width, address, first):
        vector, bits = Vector("u8", width.lanes), ir.IntType(8 * step)

        def emit(b: Any, w: Any, address: Any, first: Any) -> Any:
            groups = b.load(_at(b, address, ir.VectorType(bits, vector.lanes)), align=1)
            shift = b.shl(b.trunc(first, bits), ir.Constant(bits, 3))
            return b.trunc(b.lshr(groups, _splat(b, shift, vector.lanes)), _ir(vector))

        return vector(width, types.int64, types.int64), _emitted(emit)

    return load


every_second, every_fourth = _every(2), _every(4)
"""Load each second (fourth) of the bytes at an address, from byte `first` < 2 (4) on."""


@intrinsic
def gather(context, width, address, step):
    """Load bytes that lie `step` apart."""
    vector = Vector("u8", width.lanes)

    def emit(b: Any, w: Any, address: Any, step: Any) -> Any:
        x = ir.Constant(_ir(vector), ir.Undefined)
        for lane in range(vector.lanes):
            byte = b.load(_at(b, address, _I8))
            x = b.insert_element(x, byte, ir.Constant(_I32, lane))
            address = b.add(address, step)
        return x

    return vector(width, types.int64, types.int64), _emitted(emit)
