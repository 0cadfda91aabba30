"""Random changes of a model file that know its structure: any value of its index, any stream."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from .forge import Json, Parts

NUMBERS: tuple[Any, ...] = (
    0, 1, 2, 3, 7, 8, 9, 12, 13, 16, 255, 256, 2**15, 2**16, 2**20, 2**31 - 1, 2**31, 2**32,
    2**63, 2**64, 10**30, -1, -(2**31), 0.0, -0.0, 0.5, 1.0, 1e-40, 1e38, 1e39, 1e300, -1.0,
)  # fmt: skip
OTHERS: tuple[Any, ...] = (
    None, True, False, "", "x", "\u202e", "\x1b[31m", "\ud800", "n" * 257, [], {}, [[]], [0],
    [1, 1], ["x"], {"x": 1},
)  # fmt: skip


def mutated(data: bytes, random: Random, most: int = 4) -> bytes:
    """Return a model file with one to `most` changes, and then mostly with its digests right."""
    parts = Parts.of(data)
    donor = parts.copy().index
    for _ in range(random.randint(1, most)):
        if parts.streams and random.random() < 0.3:
            _change_stream(parts, random)
        else:
            _change_index(parts, donor, random)
    if random.random() < 0.95:
        parts.agree()
    return parts.data()


def _change_index(parts: Parts, donor: Json, random: Random) -> None:
    places = list(_places(parts.index))
    if not places:
        return
    holder, key = random.choice(places)
    kind = random.randrange(8)
    if kind < 2 and type(holder[key]) in (int, float):
        holder[key] = _nudged(holder[key], random)
    elif kind < 4:
        holder[key] = _copy(random.choice(random.choice((NUMBERS, OTHERS))))
    elif kind == 4:
        del holder[key]
    elif kind == 5:
        others = list(_places(donor))
        other, name = random.choice(others)
        holder[key] = _copy(other[name])
    elif kind == 6 and isinstance(holder, list):
        holder.insert(random.randrange(len(holder) + 1), _copy(holder[key]))
    elif isinstance(holder, list):
        at = random.randrange(len(holder))
        holder[key], holder[at] = holder[at], holder[key]
    else:
        at = random.choice(list(holder))
        holder[key], holder[at] = holder[at], holder[key]


def _copy(value: Json) -> Json:
    return json.loads(json.dumps(value))


def _nudged(number: Any, random: Random) -> Any:
    if isinstance(number, bool):
        return not number
    change = random.choice((-1, 1, -number, number, number * 7, 2**8, 2**16, 2**31))
    return number + change


def _places(value: Json) -> list[tuple[Any, Any]]:
    """Return where each value within a value stands: (what holds it, key)."""
    found: list[tuple[Any, Any]] = []
    holders = [value]
    for holder in holders:
        keys = holder if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], (dict, list)):
                holders.append(holder[key])
    return found


def _change_stream(parts: Parts, random: Random) -> None:
    streams = parts.streams
    at = random.randrange(len(streams))
    stream = bytearray(streams[at])
    kind = random.randrange(6)
    place = random.randrange(len(stream) + 1)
    if kind == 0 and stream:
        stream[place % len(stream)] ^= 1 << random.randrange(8)
    elif kind == 1 and stream:
        stream[place % len(stream)] = random.randrange(256)
    elif kind == 2:
        stream[place:place] = random.randbytes(random.randint(1, 9))
    elif kind == 3:
        del stream[place : place + random.randint(1, 9)]
    elif kind == 4:
        other = random.randrange(len(streams))
        stream, streams[other] = bytearray(streams[other]), bytes(stream)
    else:
        width = random.randint(1, 8)
        stream[place : place + width] = random.choice((b"\0", b"\xff")) * width
    streams[at] = bytes(stream)
