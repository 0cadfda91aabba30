"""How long work shows that it goes on: a bar on the terminal, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Wraps the iteration over a sequence; the text says what is being done."""

    def __call__(self, items: Sequence[T], text: str, /) -> Iterable[T]:
        """Return the items, and show how far they have been taken."""


def silent(items: Sequence[T], text: str) -> Iterable[T]:
    """Show nothing."""
    return items


def bar(items: Sequence[T], text: str) -> Iterable[T]:
    """Show a bar on stderr once the work takes longer than half a second, and take it away."""
    from tqdm import tqdm

    return tqdm(items, desc=text, delay=0.5, leave=False, disable=None)
