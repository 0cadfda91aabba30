"""Vectors as values of Numba code: load, add, count, select, store.

A vector may have more lanes than a register; LLVM splits it into what the CPU has, so that one
source becomes AVX-512, AVX2 or NEON code. Kernels above read like the formula and name no width:
they are compiled for each `Width` that they are called with. Addresses are int64, in bytes: of the
sum of an unsigned and a signed integer Numba makes a float64. `reals` has what turns integers into
float32 and back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from .cpu import NEON

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
F32 = ir.FloatType()
_ELEMENTS = {"u8": I8, "u16": I16, "u32": I32, "f32": F32}

Emit = Callable[..., Any]


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

    @property
    def ir(self) -> ir.VectorType:
        """The type in LLVM's words."""
        return ir.VectorType(_ELEMENTS[self.kind], self.lanes)


register_model(Width)(models.OpaqueModel)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.ir)


def emitted(emit: Emit) -> Emit:
    """Return Numba's code generator for a function of builder and arguments."""
    return lambda context, builder, signature, arguments: emit(builder, *arguments)


def at(builder: Any, address: Any, element: Any) -> Any:
    """Return an address as a pointer to an element."""
    return builder.inttoptr(address, element.as_pointer())


def splat(builder: Any, number: Any, lanes: int) -> Any:
    """Return a vector of one number."""
    many = ir.VectorType(number.type, lanes)
    first = builder.insert_element(ir.Constant(many, ir.Undefined), number, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, lanes), None)
    return builder.shuffle_vector(first, ir.Constant(many, ir.Undefined), zeros)


def shuffled(builder: Any, x: Any, y: Any, places: list[int]) -> Any:
    """Return the lanes of x and then y at these places."""
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(places)), places))


def joined(builder: Any, parts: list[Any]) -> Any:
    """Return vectors of one length, a power of two of them, end to end."""
    while len(parts) > 1:
        places = list(range(2 * parts[0].type.count))
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [shuffled(builder, x, y, places) for x, y in pairs]
    return parts[0]


NOTHING = ir.Constant(I8.as_pointer(), None)


def _width(count: int) -> Any:
    @intrinsic
    def width(context):
        return Width(count)(), lambda context, *rest: context.get_dummy_value()

    return width


w4, w16, w32, w64, w128 = map(_width, (4, 16, 32, 64, 128))


def at_most(count: int) -> Any:
    """Return an intrinsic that returns a width, or one of `count` lanes where those are fewer."""

    @intrinsic
    def part(context, width):
        given = Width(min(count, width.lanes))
        return given(width), lambda context, *rest: context.get_dummy_value()

    return part


@intrinsic
def lanes(context, width):
    """Return the number of lanes of a width, or of a vector."""
    return types.intp(width), emitted(lambda b, w: ir.Constant(I64, width.lanes))


def _zero(kind: str, share: int = 1) -> Any:
    @intrinsic
    def zero(context, width):
        vector = Vector(kind, width.lanes // share)
        return vector(width), emitted(lambda b, w: ir.Constant(vector.ir, None))

    return zero


zero_u8, zero_pairs = _zero("u8"), _zero("u16", 2)
"""Zeros: of bytes, and of u16 for each two bytes."""


def _load(kind: str, share: int = 1) -> Any:
    @intrinsic
    def load(context, width, address):
        vector = Vector(kind, width.lanes // share)
        emit = emitted(lambda b, w, a: b.load(at(b, a, vector.ir), align=1))
        return vector(width, types.int64), emit

    return load


load_u8, load_f32 = map(_load, ("u8", "f32"))
load_pairs, load_quarter = _load("u16", 2), _load("u32", 4)
"""Load as many bytes as there are lanes: as u16, as u32."""

_REGISTER = ir.VectorType(I8, 16)
_FOUR = ir.LiteralStructType([_REGISTER] * 4)


@intrinsic
def load_row(context, width, address):
    """Load bytes: on NEON by fours of registers, which LLVM does not do by itself."""
    vector = Vector("u8", width.lanes)

    def four_registers(b: Any, w: Any, a: Any) -> Any:
        kind = ir.FunctionType(_FOUR, [I8.as_pointer()])
        load = cgutils.get_or_insert_function(b.module, kind, "llvm.aarch64.neon.ld1x4.v16i8.p0")
        parts = []
        for first in range(0, vector.lanes, 64):
            four = b.call(load, [at(b, b.add(a, ir.Constant(I64, first)), I8)])
            parts += [b.extract_value(four, k) for k in range(4)]
        return joined(b, parts)

    def whole(b: Any, w: Any, a: Any) -> Any:
        return b.load(at(b, a, vector.ir), align=1)

    emit = four_registers if NEON and vector.lanes % 64 == 0 else whole
    return vector(width, types.int64), emitted(emit)


@intrinsic
def row_at(context, width, tile, index):
    """Return where row `index` of a tile lies.

    By the address arithmetic of LLVM: of a product it makes one instruction more on NEON.
    """

    def emit(b: Any, w: Any, tile: Any, index: Any) -> Any:
        rows = b.inttoptr(tile, ir.ArrayType(I8, width.lanes).as_pointer())
        return b.ptrtoint(b.gep(rows, [index]), I64)

    return types.int64(width, types.int64, types.int64), emitted(emit)


@intrinsic
def store(context, address, vector):
    """Store a vector."""

    def emit(b: Any, a: Any, v: Any) -> Any:
        b.store(v, at(b, a, v.type), align=1)
        return NOTHING

    return types.void(types.int64, vector), emitted(emit)


def _load_integer(element: Any) -> Any:
    @intrinsic
    def load(context, address):
        def emit(b: Any, address: Any) -> Any:
            number = b.load(at(b, address, element), align=1)
            return number if element is I64 else b.zext(number, I64)

        return types.int64(types.int64), emitted(emit)

    return load


load_byte, load_index, load_four, load_eight = map(_load_integer, (I8, I16, I32, I64))
"""Load one, two, four or eight bytes as an integer; of less than eight without a sign."""


def _load_number(element: Any, number: Any) -> Any:
    @intrinsic
    def load(context, address):
        return number(types.int64), emitted(lambda b, a: b.load(at(b, a, element), align=1))

    return load


load_int, load_float = _load_number(I32, types.int32), _load_number(F32, types.float32)


@intrinsic
def add(context, x, y):
    """Return x + y, modulo 2**bits."""
    return x(x, x), emitted(lambda b, x, y: b.add(x, y))


@intrinsic
def subtract(context, x, y):
    """Return x - y, modulo 2**bits."""
    return x(x, y), emitted(lambda b, x, y: b.sub(x, y))


@intrinsic
def larger(context, x, y):
    """Return the larger of each two lanes."""
    return x(x, y), emitted(lambda b, x, y: b.select(b.icmp_unsigned(">", x, y), x, y))


@intrinsic
def blend(context, x, mask, fill):
    """Return x where mask is 255, and the byte `fill` where it is 0."""

    def emit(b: Any, x: Any, mask: Any, fill: Any) -> Any:
        other = splat(b, b.trunc(fill, I8), x.type.count)
        return b.or_(b.and_(x, mask), b.and_(other, b.not_(mask)))

    return x(x, mask, types.int64), emitted(emit)


@intrinsic
def evens(context, x, y):
    """Return every second lane of x and then of y, from the first on."""
    return x(x, y), emitted(lambda b, *given: shuffled(b, *given, list(range(0, 2 * x.lanes, 2))))


def _half_from(first: int) -> Any:
    @intrinsic
    def seconds(context, x):
        vector = Vector(x.kind, x.lanes // 2)
        places = [min(first + 2 * k, x.lanes - 1) for k in range(vector.lanes)]
        return vector(x), emitted(lambda b, x: shuffled(b, x, x, places))

    return seconds


seconds_from_0, seconds_from_1, seconds_from_2 = map(_half_from, range(3))
"""Return every second lane of x, from this one on; the last lane again where none is left."""


@intrinsic
def as_pairs(context, x):
    """Return the bytes of x as u16 lanes, two in one."""
    vector = Vector("u16", x.lanes // 2)
    return vector(x), emitted(lambda b, x: b.bitcast(x, vector.ir))


@intrinsic
def high_bytes(context, pairs):
    """Return the high byte of each u16 lane."""
    emit = emitted(lambda b, p: b.lshr(p, splat(b, ir.Constant(I16, 8), pairs.lanes)))
    return pairs(pairs), emit


@intrinsic
def even_bytes(context, whole, high):
    """Return sums of the low bytes of u16 lanes, from sums of the lanes and of their high bytes."""

    def emit(b: Any, w: Any, h: Any) -> Any:
        return b.sub(w, b.shl(h, splat(b, ir.Constant(I16, 8), w.type.count)))

    return whole(whole, high), emitted(emit)


def _half(upper: bool) -> Any:
    @intrinsic
    def half(context, pairs):
        vector = Vector("u32", pairs.lanes // 2)

        def emit(b: Any, x: Any) -> Any:
            wide = b.bitcast(x, vector.ir)
            if upper:
                return b.lshr(wide, splat(b, ir.Constant(I32, 16), vector.lanes))
            return b.and_(wide, splat(b, ir.Constant(I32, 0xFFFF), vector.lanes))

        return vector(pairs), emitted(emit)

    return half


low_halves, high_halves = _half(False), _half(True)
"""Return every second u16 lane as u32, from the first or from the second on."""


@intrinsic
def raised(context, x, power):
    """Return x times 2**power."""

    def emit(b: Any, x: Any, power: Any) -> Any:
        element = x.type.element
        power = power if element.width == 64 else b.trunc(power, element)
        return b.shl(x, splat(b, power, x.type.count))

    return x(x, types.int64), emitted(emit)


def _every(step: int) -> Any:
    @intrinsic
    def load(context, width, address, first):
        vector, bits = Vector("u8", width.lanes), ir.IntType(8 * step)

        def emit(b: Any, w: Any, address: Any, first: Any) -> Any:
            groups = b.load(at(b, address, ir.VectorType(bits, vector.lanes)), align=1)
            shift = b.shl(b.trunc(first, bits), ir.Constant(bits, 3))
            return b.trunc(b.lshr(groups, splat(b, shift, vector.lanes)), vector.ir)

        return vector(width, types.int64, types.int64), emitted(emit)

    return load


every_second, every_fourth = _every(2), _every(4)
"""Load each second (fourth) of the bytes at an address, from byte `first` < 2 (4) on."""


@intrinsic
def gather(context, width, address, step):
    """Load bytes that lie `step` apart."""
    vector = Vector("u8", width.lanes)

    def emit(b: Any, w: Any, address: Any, step: Any) -> Any:
        x = ir.Constant(vector.ir, ir.Undefined)
        for lane in range(vector.lanes):
            x = b.insert_element(x, b.load(at(b, address, I8)), ir.Constant(I32, lane))
            address = b.add(address, step)
        return x

    return vector(width, types.int64, types.int64), emitted(emit)
