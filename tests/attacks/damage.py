"""Damage that nobody meant: flipped bits, files cut short, blocks lost or in another's place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from .child import Outcome
from .harness import Worker, check_bounds

BLOCK = 512
"""Bytes that a disk loses at once."""


@dataclass
class Tally:
    """What came of many files: how often each outcome, and the most that one of them took."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    megabytes: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self.outcomes[outcome.error or outcome.kind] += 1
        self.seconds = max(self.seconds, outcome.seconds)
        self.megabytes = max(self.megabytes, outcome.megabytes)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.outcomes.most_common())
        worst = f"at most {self.seconds:.2f} s, {self.megabytes:.1f} MB"
        return f"{sum(self.outcomes.values())} files: {counts}; {worst}"


def tried(worker: Worker, whole: bytes, files: Iterable[bytes]) -> Tally:
    """Read each file, which has to be refused by an error of ours or to be read as `whole` is."""
    (right,) = [worker.run(whole).value]
    assert right
    tally = Tally()
    for outcome in worker.run_all(files):
        check_bounds(outcome, len(whole))
        assert outcome.kind == "refused" or outcome.value == right, outcome
        assert outcome.text.isprintable(), outcome
        tally.add(outcome)
    return tally


def flipped(data: bytes, bits: Iterable[int]) -> Iterator[bytes]:
    """Yield `data` with one bit flipped, for each of `bits`."""
    for bit in bits:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def cut(data: bytes, lengths: Iterable[int]) -> Iterator[bytes]:
    """Yield the beginning of `data`, of each of `lengths`."""
    return (data[:length] for length in lengths)


def continued(data: bytes) -> Iterator[bytes]:
    """Yield `data` with more behind it."""
    return (data + more for more in (b"\0", b"x", bytes(BLOCK), data[:100], data))


def misplaced(data: bytes, random: Random, count: int) -> Iterator[bytes]:
    """Yield `data` with a block of zeros, or two blocks in each other's place, or one doubled."""
    places = range(0, len(data), BLOCK)
    for _ in range(count):
        one, other = random.choice(places), random.choice(places)
        blocks = {place: data[place : place + BLOCK] for place in places}
        kind = random.randrange(3)
        if kind == 0:
            blocks[one] = bytes(len(blocks[one]))
        elif kind == 1:
            blocks[one], blocks[other] = blocks[other], blocks[one]
        else:
            blocks[one] = blocks[other]
        yield b"".join(blocks.values())
