"""Sums of codes that nibbles of weights select: looked up, added in bytes, widened.

A byte holds the sum of a group: 4 quads of 4 codes up to 15 are 240. Sums of groups are kept in 16
bits, up to 273 of them, as `sums` does: `whole`, where each lane holds the sum of an even byte and
256 times that of the odd one beside it, modulo 2**16, and `odd`, of the odd bytes alone.
"""

from __future__ import annotations

from numba.extending import register_jitable

from .lookup import NIBBLE, TABLE, high_nibbles, look_up, low_nibbles
from .nibbles import GROUP
from .simd import (
    add,
    as_pairs,
    even_bytes,
    high_bytes,
    high_halves,
    lanes,
    load_quarter,
    load_row,
    load_u8,
    low_halves,
    raised,
    store,
    w16,
    zero_pairs,
)

QUADS = GROUP // NIBBLE


@register_jitable
def sum_narrow(w, tables, weights, groups, more, sums):
    """Add up a block of weights over some groups of codes of up to four bits.

    Parameters
    ----------
    tables : uint8 [groups, 4, 16]
    weights : uint8 [groups, 4, lanes], see `nibbles.pack`
    more : whether `sums` are added to, or written
    sums : uint32 [lanes / 8, 16], of each unit
    """
    whole_low = odd_low = whole_high = odd_high = zero_pairs(w)
    end = tables + groups * QUADS * TABLE
    while tables < end:
        t, x = load_u8(w16(), tables), load_row(w, weights)
        low, high = look_up(t, low_nibbles(x)), look_up(t, high_nibbles(x))
        for quad in range(1, QUADS):
            t, x = load_u8(w16(), tables + TABLE * quad), load_row(w, weights + lanes(w) * quad)
            low = add(low, look_up(t, low_nibbles(x)))
            high = add(high, look_up(t, high_nibbles(x)))
        whole_low, odd_low = _widen(low, whole_low, odd_low)
        whole_high, odd_high = _widen(high, whole_high, odd_high)
        tables += QUADS * TABLE
        weights += QUADS * lanes(w)
    _keep(w, _words(whole_low, odd_low), more, sums)
    _keep(w, _words(whole_high, odd_high), more, sums + 4 * lanes(w))


@register_jitable
def sum_wide(w, tables, weights, groups, more, sums):
    """Add up a block of weights over codes of more than four bits; as `sum_narrow`.

    tables : uint8 [groups, 2, 4, 16], of the codes modulo 16 and divided by 16
    """
    whole_low = odd_low = whole_high = odd_high = zero_pairs(w)
    whole_low16 = odd_low16 = whole_high16 = odd_high16 = zero_pairs(w)
    end = tables + groups * 2 * QUADS * TABLE
    while tables < end:
        tables16 = tables + QUADS * TABLE
        t, t16, x = load_u8(w16(), tables), load_u8(w16(), tables16), load_row(w, weights)
        low, high = look_up(t, low_nibbles(x)), look_up(t, high_nibbles(x))
        low16, high16 = look_up(t16, low_nibbles(x)), look_up(t16, high_nibbles(x))
        for quad in range(1, QUADS):
            t, x = load_u8(w16(), tables + TABLE * quad), load_row(w, weights + lanes(w) * quad)
            t16 = load_u8(w16(), tables16 + TABLE * quad)
            low = add(low, look_up(t, low_nibbles(x)))
            high = add(high, look_up(t, high_nibbles(x)))
            low16 = add(low16, look_up(t16, low_nibbles(x)))
            high16 = add(high16, look_up(t16, high_nibbles(x)))
        whole_low, odd_low = _widen(low, whole_low, odd_low)
        whole_high, odd_high = _widen(high, whole_high, odd_high)
        whole_low16, odd_low16 = _widen(low16, whole_low16, odd_low16)
        whole_high16, odd_high16 = _widen(high16, whole_high16, odd_high16)
        tables += 2 * QUADS * TABLE
        weights += QUADS * lanes(w)
    low = _with_16(_words(whole_low, odd_low), _words(whole_low16, odd_low16))
    high = _with_16(_words(whole_high, odd_high), _words(whole_high16, odd_high16))
    _keep(w, low, more, sums)
    _keep(w, high, more, sums + 4 * lanes(w))


@register_jitable
def _widen(part, whole, odd):
    """Add sums of bytes to `whole` and `odd`."""
    pairs = as_pairs(part)
    return add(whole, pairs), add(odd, high_bytes(pairs))


@register_jitable
def _words(whole, odd):
    """Return sums of 32 bits, in the order of `nibbles.pack`."""
    even = even_bytes(whole, odd)
    return low_halves(even), low_halves(odd), high_halves(even), high_halves(odd)


@register_jitable
def _with_16(x, y):
    """Return x + 16 * y."""
    a, b = add(x[0], raised(y[0], NIBBLE)), add(x[1], raised(y[1], NIBBLE))
    return a, b, add(x[2], raised(y[2], NIBBLE)), add(x[3], raised(y[3], NIBBLE))


@register_jitable
def _keep(w, words, more, sums):
    """Write sums, or add them to what is there."""
    a, b, c, d = words
    size = lanes(w)
    if more:
        a, b = add(a, load_quarter(w, sums)), add(b, load_quarter(w, sums + size))
        c, d = add(c, load_quarter(w, sums + 2 * size)), add(d, load_quarter(w, sums + 3 * size))
    store(sums, a)
    store(sums + size, b)
    store(sums + 2 * size, c)
    store(sums + 3 * size, d)
