"""Vectors of float32: from integers, scaled, and rounded to codes. See `simd`.

A row of pixels is held as four vectors, of each fourth pixel: bytes become such float32, and these
become bytes again, without a move between lanes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .cpu import AVX512, NEON
from .simd import F32, I8, I16, I32, Vector, emitted, joined, shuffled, splat

MAGIC = 1.5 * 2**23
"""Added to a float32 below 2**22 it rounds it to an integer, halves to even, which then stands in
the low bits of the sum."""
BIAS = 2.0**23
"""`of_byte...(x, BIAS + z)` is x - z, exactly: BIAS + x has x in its low bits."""


@intrinsic
def fill(context, width, number):
    """Return a quarter of the lanes, each a float32 `number`."""
    vector = Vector("f32", width.lanes // 4)
    emit = emitted(lambda b, w, n: splat(b, n, vector.lanes))
    return vector(width, types.float32), emit


@intrinsic
def alike(context, x, number):
    """Return as many lanes as x has, each a float32 `number`."""
    return x(x, types.float32), emitted(lambda b, x, number: splat(b, number, x.type.count))


@intrinsic
def reals_from(context, x, absent):
    """Return float32(x - absent) of u32 sums, less than 2**31."""
    vector = Vector("f32", x.lanes)

    def emit(b: Any, x: Any, absent: Any) -> Any:
        return b.sitofp(b.sub(x, splat(b, absent, x.type.count)), vector.ir)

    return vector(x, types.int32), emitted(emit)


def _biased(builder: Any, pairs: Any, upper: bool) -> Any:
    """Return 0x4B000000, the bits of BIAS, plus every second u16 lane, in as few instructions."""
    n = pairs.type.count // 2
    many = ir.VectorType(I32, n)

    def number(value: int) -> Any:
        return splat(builder, ir.Constant(I32, value), n)

    if AVX512 and upper:  # a shift of two words
        kind, name = ir.FunctionType(many, [many] * 3), f"llvm.fshl.v{n}i32"
        shift = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(shift, [number(0x4B00), builder.bitcast(pairs, many), number(16)])
    if AVX512:  # an operation of three
        wide = builder.bitcast(pairs, many)
        return builder.or_(builder.and_(wide, number(0xFFFF)), number(0x4B000000))
    high = ir.Constant(pairs.type, [0x4B00] * 2 * n)
    if NEON:  # a transposition
        places = [place for k in range(int(upper), 2 * n, 2) for place in (k, 2 * n + k)]
    else:  # a blend, of what is shifted
        if upper:
            pairs = builder.bitcast(
                builder.lshr(builder.bitcast(pairs, many), number(16)), pairs.type
            )
        places = [place for k in range(0, 2 * n, 2) for place in (k, 2 * n + k + 1)]
    return builder.bitcast(shuffled(builder, pairs, high, places), many)


def _of_halves(upper: bool) -> Any:
    @intrinsic
    def of_halves(context, pairs, offset):
        vector = Vector("f32", pairs.lanes // 2)

        def emit(b: Any, pairs: Any, offset: Any) -> Any:
            reals = b.bitcast(_biased(b, pairs, upper), vector.ir)
            return b.fsub(reals, splat(b, offset, vector.lanes))

        return vector(pairs, types.float32), emitted(emit)

    return of_halves


of_low_halves, of_high_halves = _of_halves(False), _of_halves(True)
"""Return every second u16 lane as float32, less `offset` - BIAS, from the first or second on."""


def _of_byte(index: int) -> Any:
    @intrinsic
    def of_byte(context, x, offset):
        vector = Vector("f32", x.lanes // 4)

        def emit(b: Any, x: Any, offset: Any) -> Any:
            def number(value: int) -> Any:
                return splat(b, ir.Constant(I32, value), vector.lanes)

            wide = b.lshr(b.bitcast(x, ir.VectorType(I32, vector.lanes)), number(8 * index))
            biased = b.or_(b.and_(wide, number(255)), number(0x4B000000))
            return b.fsub(b.bitcast(biased, vector.ir), splat(b, offset, vector.lanes))

        return vector(x, types.float32), emitted(emit)

    return of_byte


of_byte0, of_byte1, of_byte2, of_byte3 = map(_of_byte, range(4))
"""Return every fourth byte of x as float32, less `offset` - BIAS."""


def _every_fourth(first: int) -> Any:
    @intrinsic
    def take(context, x):
        vector, places = Vector(x.kind, x.lanes // 4), list(range(first, x.lanes, 4))
        return vector(x), emitted(lambda b, x: shuffled(b, x, x, places))

    return take


fourth0, fourth1, fourth2, fourth3 = map(_every_fourth, range(4))
"""Return every fourth lane of x."""


@intrinsic
def interleave(context, a, b, c, d):
    """Return a[0], b[0], c[0], d[0], a[1], ..."""
    vector = Vector(a.kind, 4 * a.lanes)
    places = [k % 4 * a.lanes + k // 4 for k in range(vector.lanes)]

    def emit(builder: Any, *parts: Any) -> Any:
        whole = joined(builder, list(parts))
        return shuffled(builder, whole, whole, places)

    return vector(a, b, c, d), emitted(emit)


@intrinsic
def add_scaled(context, t, x, factor):
    """Return t + x * factor."""

    def emit(b: Any, t: Any, x: Any, factor: Any) -> Any:
        return b.fadd(t, b.fmul(x, splat(b, factor, x.type.count)))

    return t(t, x, types.float32), emitted(emit)


def _of_two(operation: str) -> Any:
    @intrinsic
    def compute(context, x, y):
        return x(x, y), emitted(lambda b, x, y: getattr(b, operation)(x, y))

    return compute


plus, minus, product, quotient = map(_of_two, ("fadd", "fsub", "fmul", "fdiv"))
"""Return x + y, x - y, x * y, x / y."""


@intrinsic
def root(context, x):
    """Return square roots."""

    def emit(b: Any, x: Any) -> Any:
        kind, name = ir.FunctionType(x.type, [x.type]), f"llvm.sqrt.v{x.type.count}f32"
        return b.call(cgutils.get_or_insert_function(b.module, kind, name), [x])

    return x(x), emitted(emit)


@intrinsic
def round_codes(context, q, low):
    """Return q, within the bounds of codes, rounded to integers, minus low, as u8."""

    def emit(b: Any, q: Any, low: Any) -> Any:
        n = q.type.count
        magic = splat(b, ir.Constant(F32, MAGIC), n)
        words = b.bitcast(b.fadd(q, magic), ir.VectorType(I32, n))
        return _less(b, b.trunc(words, ir.VectorType(I8, n)), low)

    return Vector("u8", q.lanes)(q, types.float32), emitted(emit)


@intrinsic
def at_least(context, x, low):
    """Return x, or `low` where it is less."""

    def emit(b: Any, x: Any, low: Any) -> Any:
        least = splat(b, low, x.type.count)
        return b.select(b.fcmp_ordered("<", x, least), least, x)

    return x(x, types.float32), emitted(emit)


@intrinsic
def greater(context, x, y):
    """Return x where it is greater than y, and else y: where they are equal, or one is NaN."""
    return x(x, y), emitted(lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))


@intrinsic
def clip(context, x, low, high):
    """Return x within low to high, NaN as low."""
    return x(x, types.float32, types.float32), emitted(_clip)


def _round_quarters(small: bool) -> Any:
    @intrinsic
    def round_quarters(context, a, b, c, d, low, high):
        vector = Vector("u8", 4 * a.lanes)

        def emit(builder: Any, *given: Any) -> Any:
            *parts, low, high = given
            n = a.lanes
            magic = splat(builder, ir.Constant(F32, MAGIC), n)
            words = [
                builder.bitcast(
                    builder.fadd(q if small else _clip(builder, q, low, high), magic),
                    ir.VectorType(I32, n),
                )
                for q in parts
            ]
            pairs = ir.VectorType(I16, 2 * n)
            halves = [
                builder.bitcast(_joined_halves(builder, *both), pairs)
                for both in zip(words[:2], words[2:], strict=True)
            ]
            if small:
                limits = [builder.fptosi(limit, I16) for limit in (low, high)]
                halves = [_clip_integers(builder, half, *limits) for half in halves]
            return _less(builder, builder.bitcast(_joined_halves(builder, *halves), vector.ir), low)

        return vector(a, b, c, d, types.float32, types.float32), emitted(emit)

    return round_quarters


round_quarters, round_small_quarters = _round_quarters(False), _round_quarters(True)
"""Of a[0], b[0], c[0], d[0], a[1], ... the codes, u8: clipped to integers low to high, NaN to low,
rounded, minus low. `round_small_quarters` wants |x| < 2**15, and clips what is rounded."""


def _joined_halves(builder: Any, low: Any, high: Any) -> Any:
    """Return lanes of the low halves of two vectors' lanes."""
    bits, n = low.type.element.width // 2, low.type.count
    mask = splat(builder, ir.Constant(low.type.element, 2**bits - 1), n)
    shift = splat(builder, ir.Constant(low.type.element, bits), n)
    return builder.or_(builder.and_(low, mask), builder.shl(high, shift))


def _less(builder: Any, codes: Any, low: Any) -> Any:
    """Return codes less a whole float32, modulo 256."""
    zero = builder.trunc(builder.fptosi(low, I32), I8)
    return builder.sub(codes, splat(builder, zero, codes.type.count))


def _clip(builder: Any, q: Any, low: Any, high: Any) -> Any:
    """Return q within low to high, NaN as low."""
    least, most = (splat(builder, limit, q.type.count) for limit in (low, high))
    q = builder.select(builder.fcmp_ordered(">", q, least), q, least)
    if not NEON:
        return builder.select(builder.fcmp_ordered("<", q, most), q, most)
    kind, name = ir.FunctionType(q.type, [q.type] * 2), f"llvm.minnum.v{q.type.count}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [q, most])


def _clip_integers(builder: Any, x: Any, low: Any, high: Any) -> Any:
    least, most = (splat(builder, limit, x.type.count) for limit in (low, high))
    x = builder.select(builder.icmp_signed(">", x, least), x, least)
    return builder.select(builder.icmp_signed("<", x, most), x, most)
