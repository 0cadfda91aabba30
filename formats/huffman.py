"""Canonical Huffman codes of at most 12 bits over the symbols 0 to n - 1, with n up to 256.

A table is one code length a symbol, 0 for a symbol that does not occur; the codes follow from the
lengths as in RFC 1951. As in DEFLATE, the payload is filled from the least significant bit of each
byte, a code goes in from its first bit on, and zero bits fill the last byte. An alphabet of one
symbol is sent in no bits: its code length is 1, its payload empty.

>>> symbols = np.array([0, 0, 1, 0, 2, 0], np.uint8)
>>> lengths = code_lengths(symbol_counts(symbols, 3))
>>> lengths, canonical_codes(lengths)  # codes 0, 10, 11
(array([1, 2, 2], dtype=uint8), array([0, 2, 3], dtype=uint16))
>>> encode(symbols, lengths)  # from the right: 0b0_11_0_01_0_0
array([100], dtype=uint8)
>>> next(decode(np.array([100], np.uint8), lengths, 6, compiled=False))
array([0, 0, 1, 0, 2, 0], dtype=uint8)
>>> write_lengths(lengths)  # four bits each
array([33,  2], dtype=uint8)

References
----------
RFC 1951, DEFLATE, section 3.2.2: canonical codes.
Larmore and Hirschberg, A fast algorithm for optimal length-limited Huffman codes, Journal of the
ACM 37 (3), 1990: package-merge.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepchip.formats import bitstream
from deepchip.formats.errors import InputError, InvalidModelError
from deepchip.formats.jit import jit

MAX_LENGTH = 12
MAX_SYMBOLS = 256
_SLICE = 2**16  # symbols worked on at a time, a multiple of four
_SLICE_BYTES = 2**11  # bytes that NumPy decodes at a time


def symbol_counts(symbols: NDArray[np.uint8], n: int) -> NDArray[np.int64]:
    """Return how often each of the symbols 0 to n - 1 occurs, int64[n]."""
    counts = np.zeros(MAX_SYMBOLS, np.int64)
    for start in range(0, symbols.size, _SLICE):
        counts += np.bincount(symbols[start : start + _SLICE], minlength=MAX_SYMBOLS)
    if counts[n:].any():
        raise InputError(f"symbol {symbols.max()} in an alphabet of {n}; enlarge the alphabet")
    return counts[:n]


def code_lengths(counts: NDArray[np.int64], limit: int = MAX_LENGTH) -> NDArray[np.uint8]:
    """Return the code lengths that send `counts` in the fewest bits, by package-merge.

    Parameters
    ----------
    counts : int64[n]    How often each symbol occurs, n up to 256.
    limit : int          The longest code allowed, up to 12 bits.

    Returns
    -------
    uint8[n]    0 for a symbol that does not occur; 1 for a symbol that is the only one.

    Raises
    ------
    InputError
        If the symbols that occur are more than the codes of `limit` bits.
    """
    lengths = np.zeros(counts.size, np.uint8)
    present = np.flatnonzero(counts)
    if not 1 <= limit <= MAX_LENGTH or present.size > min(2**limit, MAX_SYMBOLS):
        raise InputError(
            f"{present.size} symbols in codes of at most {limit} bits; "
            f"possible are {MAX_SYMBOLS} symbols, {MAX_LENGTH} bits and 2**bits symbols"
        )
    if present.size == 1:
        lengths[present] = 1
    leaves = sorted((int(counts[symbol]), [int(symbol)]) for symbol in present)
    packages: list[tuple[int, list[int]]] = []
    for _ in range(limit):
        coins = sorted(leaves + packages, key=lambda coin: coin[0])
        packages = [
            (low[0] + high[0], low[1] + high[1])
            for low, high in zip(coins[::2], coins[1::2], strict=False)  # an odd coin is left over
        ]
    for _, symbols in packages[: max(present.size - 1, 0)]:
        for symbol in symbols:
            lengths[symbol] += 1
    return lengths


def canonical_codes(lengths: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the code of each symbol, first bit most significant, uint16[n] (RFC 1951, 3.2.2).

    Raises
    ------
    InvalidModelError
        If the lengths make no complete prefix code; see `check_lengths`.
    """
    check_lengths(lengths)
    codes = np.zeros(lengths.size, np.uint16)
    order, spans = _canonical_order(lengths)
    codes[order] = (np.cumsum(spans) - spans) >> (MAX_LENGTH - lengths[order])
    return codes


def check_lengths(lengths: NDArray[np.uint8]) -> None:
    """Raise InvalidModelError unless `lengths` are those of a complete code, or of one symbol."""
    longest = int(lengths.max(initial=0))
    if lengths.size > MAX_SYMBOLS or longest > MAX_LENGTH:
        raise InvalidModelError(
            f"Huffman table of {lengths.size} symbols and codes up to {longest} bits, "
            f"expected at most {MAX_SYMBOLS} symbols and {MAX_LENGTH} bits"
        )
    used = lengths[lengths > 0]
    if used.size <= 1:
        if longest > 1:
            raise InvalidModelError(f"Huffman table of one symbol has length {longest}, expected 1")
        return
    filled, full = int((2**MAX_LENGTH >> used.astype(np.int64)).sum()), 2**MAX_LENGTH
    if filled != full:
        fault = "over-subscribed" if filled > full else "under-subscribed"
        raise InvalidModelError(
            f"Huffman table is {fault}: its codes fill {filled} of {full} places, expected all"
        )


def write_lengths(lengths: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack a table in four bits a length; the zeros after the last length are not sent."""
    check_lengths(lengths)
    return bitstream.pack(np.trim_zeros(lengths, "b"), 4)


def read_lengths(data: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """Read the table of `n` symbols that fills `data`: the inverse of `write_lengths`, uint8[n].

    Raises
    ------
    InvalidModelError
        If `data` is not what `write_lengths` makes of a valid table of `n` symbols.
    """
    if not 0 <= n <= MAX_SYMBOLS or data.size > (n + 1) // 2:
        raise InvalidModelError(
            f"Huffman table of {n} symbols in {data.size} bytes, "
            f"expected at most {MAX_SYMBOLS} symbols, two in a byte"
        )
    if data.size and data[-1] == 0:
        raise InvalidModelError("Huffman table ends with a zero byte, expected a code length")
    (sent,) = bitstream.unpack(data, 4, 2 * data.size)
    if sent[n:].any():
        raise InvalidModelError(f"Huffman table holds {n + 1} symbols, expected {n}")
    lengths = np.zeros(n, np.uint8)
    lengths[: sent.size] = sent[:n]
    check_lengths(lengths)
    return lengths


def encode(symbols: NDArray[np.uint8], lengths: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Encode `symbols`, uint8[count], with the codes that follow from `lengths`, uint8[n].

    Raises
    ------
    InputError
        If a symbol has no code.
    InvalidModelError
        If the lengths make no complete prefix code.
    """
    check_lengths(lengths)
    counts = symbol_counts(symbols, lengths.size)
    missing = np.flatnonzero((counts > 0) & (lengths == 0))
    if missing.size:
        raise InputError(f"symbol {missing[0]} has no code; count it before making the table")
    if np.count_nonzero(lengths) <= 1:
        return np.zeros(0, np.uint8)
    order, spans = _canonical_order(lengths)
    codes = np.zeros(lengths.size, np.uint64)
    codes[order] = _reversed_bits()[np.cumsum(spans) - spans]  # first bit least significant
    widths = lengths.astype(np.uint64)
    total = int(counts @ lengths.astype(np.int64))
    words = np.zeros(total // 64 + 2, np.uint64)
    position = 0
    for start in range(0, symbols.size, _SLICE):
        part = symbols[start : start + _SLICE]
        position = _append(words, position, codes[part], widths[part])
    return words.astype("<u8", copy=False).view(np.uint8)[: (total + 7) // 8]


def _append(
    words: NDArray[np.uint64], position: int, codes: NDArray[np.uint64], widths: NDArray[np.uint64]
) -> int:
    """Write `codes` of `widths` bits into `words` from bit `position` on; return where they end."""
    fill = -codes.size % 4
    codes, widths = np.pad(codes, (0, fill)), np.pad(widths, (0, fill))
    for _ in range(2):  # join neighbours twice: four codes have 48 bits at most
        codes = codes[::2] | codes[1::2] << widths[::2]
        widths = widths[::2] + widths[1::2]
    ends = np.cumsum(widths) + np.uint64(position)
    begins = ends - widths
    word, shift = (begins >> np.uint64(6)).astype(np.int64), begins & np.uint64(63)
    first = np.concatenate([[0], np.flatnonzero(np.diff(word)) + 1])  # of each word
    words[word[first]] |= np.bitwise_or.reduceat(codes << shift, first)
    # Only the last group that begins in a word can reach into the next. In two steps, because
    # a shift by 64 is not defined.
    last = np.concatenate([first[1:] - 1, [word.size - 1]])
    words[word[last] + 1] |= codes[last] >> (np.uint64(63) - shift[last]) >> np.uint64(1)
    return int(ends[-1])


def decode(
    payload: NDArray[np.uint8], lengths: NDArray[np.uint8], count: int, *, compiled: bool
) -> Iterator[NDArray[np.uint8]]:
    """Decode `count` symbols, some at a time: the inverse of `encode`.

    One symbol alone takes no bits, so there the caller bounds `count` first.

    Parameters
    ----------
    payload : uint8[bytes]
    lengths : uint8[n]
    count : int
    compiled : bool    Decode by Numba, else by NumPy alone, which does the same more slowly.

    Yields
    ------
    uint8[up to 2**16], `count` symbols in all

    Raises
    ------
    InvalidModelError
        If the lengths make no complete prefix code, the payload is too short or too long, or a
        padding bit is set. What is wrong with the payload's end is raised at the end.
    """
    check_lengths(lengths)
    if count < 0:
        raise InvalidModelError(f"{count} Huffman symbols, expected 0 or more")
    used = np.flatnonzero(lengths)
    if used.size <= 1:
        if payload.size or (count and not used.size):
            raise InvalidModelError(
                f"{payload.size} Huffman bytes for {count} symbols of an alphabet of {used.size}, "
                "expected no bytes, and a symbol to repeat"
            )
        for start in range(0, count, _SLICE):
            yield np.full(min(_SLICE, count - start), used[0], np.uint8)
        return
    table = _lookup_table(lengths)
    read = _decode_bytes if compiled else _decode_offsets
    end = 0
    for start in range(0, count, _SLICE):
        symbols = np.empty(min(_SLICE, count - start), np.uint8)
        end = int(read(payload, table, end, symbols))
        if end > 8 * payload.size:
            raise InvalidModelError(
                f"{payload.size} Huffman bytes end before {count} symbols are read"
            )
        yield symbols
    if (end + 7) // 8 != payload.size:
        raise InvalidModelError(
            f"{payload.size} Huffman bytes, but {count} symbols end in {(end + 7) // 8}"
        )
    bitstream.check_padding(payload, end)


@jit("int64(Array(uint8, 1, 'C', readonly=True), uint64[::1], int64, uint8[::1])")
def _decode_bytes(payload: Any, table: Any, start: Any, symbols: Any) -> Any:
    """Fill `symbols` from bit `start` of `payload` on; return the bit after the last symbol.

    Zero bits follow the payload. Two lookups follow each refill: it leaves 32 bits or more, and a
    lookup takes up to 12. Indices are unsigned: Numba would ask whether others are negative.
    """
    count, size, byte = symbols.size, payload.size, start >> 3
    buffer, bits, done = np.uint64(0), np.int64(0), np.int64(0)
    if byte < size:
        buffer, bits = np.uint64(payload[byte]) >> np.uint64(start & 7), 8 - (start & 7)
        byte += 1
    while done + 14 <= count and byte + 4 <= size:
        if bits < 32:
            at, word = np.uint64(byte), np.uint64(0)
            for i in range(4):
                word |= np.uint64(payload[at + np.uint64(i)]) << np.uint64(8 * i)
            buffer |= word << np.uint64(bits)
            bits += 32
            byte += 4
        for _ in range(2):
            entry = table[buffer & np.uint64(4095)]
            at = np.uint64(done)
            for i in range(8):  # as one word; what follows the symbols is overwritten
                symbols[at + np.uint64(i)] = entry >> np.uint64(8 * i) & np.uint64(255)
            taken = entry >> np.uint64(52) & np.uint64(15)
            buffer >>= taken
            bits -= np.int64(taken)
            done += np.int64(entry >> np.uint64(56))
    while done < count:
        while bits < 12 and byte < size:
            buffer |= np.uint64(payload[byte]) << np.uint64(bits)
            bits += 8
            byte += 1
        entry = table[buffer & np.uint64(4095)]
        symbols[done] = entry & np.uint64(255)
        taken = entry >> np.uint64(48) & np.uint64(15)
        buffer >>= taken
        bits -= np.int64(taken)
        done += 1
    return 8 * byte - bits


def _decode_offsets(
    payload: NDArray[np.uint8], table: NDArray[np.uint64], start: int, symbols: NDArray[np.uint8]
) -> int:
    """Do what `_decode_bytes` does, in NumPy: look up every bit offset, then follow the codes."""
    code_bits = (table >> np.uint64(48) & np.uint64(15)).astype(np.uint8)
    done, at = 0, start % 8
    for begin in range(start // 8, payload.size + 1, _SLICE_BYTES):
        octets = np.zeros(min(_SLICE_BYTES, payload.size + 1 - begin) + 2, np.int64)
        part = payload[begin : begin + octets.size]
        octets[: part.size] = part
        window = octets[:-2] | octets[1:-1] << 8 | octets[2:] << 16
        keys = (window[:, np.newaxis] >> np.arange(8) & 4095).reshape(-1)  # at every bit offset
        steps = code_bits[keys].tobytes()
        begins = []
        while at < len(steps):
            begins.append(at)
            at += steps[at]
        read = min(len(begins), symbols.size - done)
        symbols[done : done + read] = table[keys[begins[:read]]]  # the low 8 bits
        done += read
        if done == symbols.size:
            return 8 * begin + (begins[read] if read < len(begins) else at)
        at -= len(steps)
    return 8 * payload.size + 1


def _lookup_table(lengths: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return uint64[2**12]: which one to six symbols the next 12 bits begin with.

    From the least significant bit: the symbols (8 bits each), length of the first code (4), length
    of all codes (4), number of symbols.
    """
    order, spans = _canonical_order(lengths)
    first = np.repeat(order, spans)[_reversed_bits()]
    length = lengths.astype(np.int64)[first]
    symbols, total, number = first, length, np.ones_like(first)
    whole = np.ones(first.size, np.bool_)
    for place in range(8, 48, 8):
        rest = np.arange(2**MAX_LENGTH) >> total
        longer = total + length[rest]
        whole &= longer <= MAX_LENGTH  # else the next code is cut off, and what is read is not it
        symbols = symbols | np.where(whole, first[rest] << place, 0)
        total = np.where(whole, longer, total)
        number = number + whole
    return (symbols | length << 48 | total << 52 | number << 56).astype(np.uint64)


def _canonical_order(lengths: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the symbols by length then value, and how many 12-bit numbers begin with each code."""
    order = np.argsort(lengths, kind="stable")[np.count_nonzero(lengths == 0) :]
    return order, 2**MAX_LENGTH >> lengths[order].astype(np.int64)


@cache
def _reversed_bits() -> NDArray[np.int64]:
    """Return every 12-bit number with its bits in reverse order."""
    numbers = np.arange(2**MAX_LENGTH)
    flipped = np.zeros_like(numbers)
    for bit in range(MAX_LENGTH):
        flipped |= (numbers >> bit & 1) << (MAX_LENGTH - 1 - bit)
    return flipped
