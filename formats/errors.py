"""The errors that DeepChip raises on purpose. *Invalid* and *unsupported* are kept apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class DeepChipError(Exception):
    """Base of every error that DeepChip raises on purpose.

    Its text is one line of printable characters, whatever a file or its name makes it quote.
    """

    MAX_TEXT = 2000
    """Characters of its text: what a hostile file makes us quote must not flood a log."""

    def __init__(self, text: str) -> None:
        most = self.MAX_TEXT
        text = text if len(text) <= most else f"{text[: most - 4]} ..."
        if not text.isprintable():  # a terminal would obey control characters
            text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
        super().__init__(text)


class InvalidModelError(DeepChipError):
    """A file contradicts its own format: damaged, truncated or hostile. Get it again."""

    MAX_TEXT = 500


class SignatureError(InvalidModelError):
    """A file is not signed, or not with the key that was demanded. Do not use it."""


class UnsupportedError(DeepChipError):
    """A well-formed file asks for something that this release does not do."""


class InputError(DeepChipError, ValueError):
    """An argument of the caller's is wrong: its shape, type, value or name."""


class UsageError(InputError):
    """An option says what cannot be meant; found before any file is touched."""


class OutOfMemoryError(DeepChipError, MemoryError):
    """Memory could not be had; the text says how much, what for, and what to do.

    Nothing else is lost: what is loaded goes on working, and smaller models and batches run.
    """


@contextmanager
def located(place: str) -> Iterator[None]:
    """Prefix the text of any DeepChip error that passes through with `place`.

    >>> with located("net.dchip"), located("layer 'conv2'"):
    ...     raise InvalidModelError("no bytes left")
    Traceback (most recent call last):
    deepchip.formats.errors.InvalidModelError: net.dchip: layer 'conv2': no bytes left
    """
    try:
        yield
    except DeepChipError as error:
        raise type(error)(f"{place}: {error}") from error
