"""Attacks as a table: a name, what makes the file, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from deepchip.formats.errors import DeepChipError, InvalidModelError

Make = Callable[[], bytes]


@dataclass(frozen=True)
class Attack:
    """A hostile file.

    Attributes
    ----------
    make : gives its bytes
    error, text : what refuses it, and part of what that says; None if it is read, as what it asks
        for is allowed, and is only not to cost more than that
    """

    name: str
    make: Make
    error: type[DeepChipError] | None
    text: str


@dataclass(frozen=True)
class Table:
    """Attacks in the order in which they were added."""

    attacks: list[Attack] = field(default_factory=list)

    def refused(
        self, text: str, error: type[DeepChipError] = InvalidModelError
    ) -> Callable[[Make], Make]:
        """Add a file, named after the function, that is refused with `text`."""
        return lambda make: self._add(make, error, text)

    def read(self, make: Make) -> Make:
        """Add a file that is read."""
        return self._add(make, None, "")

    def _add(self, make: Make, error: type[DeepChipError] | None, text: str) -> Make:
        self.attacks.append(Attack(make.__name__.replace("_", " "), make, error, text))
        return make
