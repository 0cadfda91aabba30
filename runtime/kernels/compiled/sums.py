"""Sums of tile rows: a load and an add of many pixels for each nonzero.

Positions of nonzeros are read by fours. A sum is two vectors of u16: `whole`, where each lane holds
the sum of an even pixel and 256 times that of the odd one beside it, modulo 2**16, and `high`, of
the odd pixels alone: bytes become wider without a move between lanes, and `even_bytes(whole, high)`
are the sums of the even pixels.
"""

from __future__ import annotations

from numba.extending import register_jitable

from .bits import majority, parity
from .cpu import AVX512, NEON
from .simd import (
    add,
    as_pairs,
    high_bytes,
    lanes,
    load_eight,
    load_four,
    load_index,
    load_row,
    raised,
    row_at,
    zero_pairs,
    zero_u8,
)

QUAD = 4
"""Positions are padded to fours with that of a tile row of zeros."""


@register_jitable
def four_of_bytes(w, tile, place):
    """Return where tile rows at the next four positions of one byte lie, and the place after.

    NEON takes a field of bits, and shifts as it adds; x86 has fewer instructions where all four are
    shifted at once.
    """
    four = load_four(place)
    if NEON:
        a, b = row_at(w, tile, four & 255), row_at(w, tile, four >> 8 & 255)
        return a, b, row_at(w, tile, four >> 16 & 255), row_at(w, tile, four >> 24), place + 4
    size = lanes(w)
    four, byte = four * size, 255 * size
    a, b = tile + (four & byte), tile + (four >> 8 & byte)
    c, d = tile + (four >> 16 & byte), tile + (four >> 24 & byte)
    return a, b, c, d, place + 4


@register_jitable
def four_of_words(w, tile, place):
    """Return where tile rows at the next four positions of two bytes lie, and the place after."""
    a, b, c, d = _four(place)
    size = lanes(w)
    return tile + a * size, tile + b * size, tile + c * size, tile + d * size, place + 8


@register_jitable
def four_of_lines(w, tile, place):
    """As `four_of_words`, where positions count lines of 64 bytes: addresses take no shift."""
    a, b, c, d = _four(place)
    size = lanes(w) // 64
    return tile + a * size, tile + b * size, tile + c * size, tile + d * size, place + 8


@register_jitable
def _four(place):
    """Load four positions: at once where registers are short, so that tile rows take more loads."""
    if AVX512:
        a, b, c = load_index(place), load_index(place + 2), load_index(place + 4)
        return a, b, c, load_index(place + 6)
    four = load_eight(place)
    return four & 65535, four >> 16 & 65535, four >> 32 & 65535, four >> 48 & 65535


@register_jitable
def sum_narrow(w, four, tile, place, quads, chunk, whole, high):
    """Add tile rows to sums in 8-bit lanes, `chunk` quads before these could overflow, then in 16.

    Returns `whole`, `high` and where the next positions lie.
    """
    while quads > 0:
        count = min(quads, chunk)
        quads -= count
        if NEON:
            part, place = _add_singly(w, four, tile, place, count)
        else:
            part, place = _add_in_pairs(w, four, tile, place, count)
        pairs = as_pairs(part)
        whole = add(whole, pairs)
        high = add(high, high_bytes(pairs))
    return whole, high, place


@register_jitable
def _add_in_pairs(w, four, tile, place, quads):
    """Add tile rows in 8-bit lanes, in chains that are shorter than of one by one."""
    part = zero_u8(w)
    while quads > 0:
        a, b, c, d, place = four(w, tile, place)
        first, second = add(load_row(w, a), load_row(w, b)), add(load_row(w, c), load_row(w, d))
        part = add(part, add(first, second))
        quads -= 1
    return part, place


@register_jitable
def _add_singly(w, four, tile, place, quads):
    """Add each tile row as it is loaded: the registers of NEON would not suffice otherwise."""
    a, b, c, d, place = four(w, tile, place)
    part = add(load_row(w, a), load_row(w, b))
    part = add(add(part, load_row(w, c)), load_row(w, d))
    while quads > 1:
        a, b, c, d, place = four(w, tile, place)
        part = add(add(part, load_row(w, a)), load_row(w, b))
        part = add(add(part, load_row(w, c)), load_row(w, d))
        quads -= 1
    return part, place


@register_jitable
def sum_wide(w, four, tile, place, quads, whole, high):
    """Add tile rows of any codes; as `sum_narrow`."""
    if AVX512:
        return _save_carries(w, four, tile, place, quads, whole, high)
    return _sum_pairs(w, four, tile, place, quads, whole, high)


@register_jitable
def _sum_pairs(w, four, tile, place, quads, whole, high):
    """Add each row twice: three operations; NEON shifts and adds in one instruction."""
    while quads > 0:
        a, b, c, d, place = four(w, tile, place)
        x = as_pairs(load_row(w, a))
        whole, high = add(whole, x), add(high, high_bytes(x))
        x = as_pairs(load_row(w, b))
        whole, high = add(whole, x), add(high, high_bytes(x))
        x = as_pairs(load_row(w, c))
        whole, high = add(whole, x), add(high, high_bytes(x))
        x = as_pairs(load_row(w, d))
        whole, high = add(whole, x), add(high, high_bytes(x))
        quads -= 1
    return whole, high, place


@register_jitable
def _save_carries(w, four, tile, place, quads, whole, high):
    """Add with adders that save carries.

    Bit by bit, parity and majority of three bytes are the ones and twos of their sum (Wallace, A
    Suggestion for a Fast Multiplier, 1964). Only bytes of weight 4 are added in 16-bit lanes.
    """
    fours, high_fours = zero_pairs(w), zero_pairs(w)
    ones, twos = zero_u8(w), zero_u8(w)
    while quads > 0:
        a, b, c, d, place = four(w, tile, place)
        a, b, c, d = load_row(w, a), load_row(w, b), load_row(w, c), load_row(w, d)
        first = majority(ones, a, b)
        ones = parity(ones, a, b)
        second = majority(ones, c, d)
        ones = parity(ones, c, d)
        more = as_pairs(majority(twos, first, second))
        twos = parity(twos, first, second)
        fours = add(fours, more)
        high_fours = add(high_fours, high_bytes(more))
        quads -= 1
    one, two = as_pairs(ones), as_pairs(twos)
    whole = add(whole, add(raised(fours, 2), add(raised(two, 1), one)))
    rest = add(raised(high_bytes(two), 1), high_bytes(one))
    return whole, add(high, add(raised(high_fours, 2), rest)), place


@register_jitable
def narrow_bytes(w, tile, place, quads, chunk, whole, high):
    """Sum codes of up to 6 bits at positions of one byte."""
    return sum_narrow(w, four_of_bytes, tile, place, quads, chunk, whole, high)


@register_jitable
def narrow_lines(w, tile, place, quads, chunk, whole, high):
    """Sum codes of up to 6 bits at positions in lines of 64 bytes."""
    return sum_narrow(w, four_of_lines, tile, place, quads, chunk, whole, high)


@register_jitable
def narrow_words(w, tile, place, quads, chunk, whole, high):
    """Sum codes of up to 6 bits at positions of two bytes."""
    return sum_narrow(w, four_of_words, tile, place, quads, chunk, whole, high)


@register_jitable
def wide_bytes(w, tile, place, quads, chunk, whole, high):
    """Sum any codes at positions of one byte."""
    return sum_wide(w, four_of_bytes, tile, place, quads, whole, high)


@register_jitable
def wide_lines(w, tile, place, quads, chunk, whole, high):
    """Sum any codes at positions in lines of 64 bytes."""
    return sum_wide(w, four_of_lines, tile, place, quads, whole, high)


@register_jitable
def wide_words(w, tile, place, quads, chunk, whole, high):
    """Sum any codes at positions of two bytes."""
    return sum_wide(w, four_of_words, tile, place, quads, whole, high)
