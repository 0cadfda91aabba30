r"""Reads protobuf's text format, in which Caffe describes networks, without a schema.

The syntax: https://protobuf.dev/reference/protobuf/textformat-spec. Extension names, `Any` and
escapes of bytes in strings, which no description of a network uses, are refused.

>>> layer = parse('name: "pool1" pooling_param { pool: MAX stride: 2  # of both axes\n }')
>>> settings = layer.message("pooling_param")
>>> layer.text("name"), settings.word("pool", "AVE"), settings.integer("stride", 1)
('pool1', 'MAX', 2)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from deepchip.formats.errors import InvalidModelError

MAX_CHARACTERS = 2**18
"""Of one description: ResNet-152 takes 80,000. Half a second on a PC, for which `limits` allows."""
MAX_DEPTH = 16
"""Blocks in blocks: Caffe's own nest four deep."""

_Kind = TypeVar("_Kind")


class Word(str):
    """A bare word: a name of an enumeration, `true` or `false`."""


Scalar = Word | str | int | float


class _Field(NamedTuple):
    line: int
    value: Scalar | Message


class Message:
    """A block of named fields, each with one or more values; it notes which were asked for."""

    def __init__(self, line: int) -> None:
        self.line = line
        self._fields: dict[str, list[_Field]] = {}
        self._read: set[str] = set()

    def add(self, name: str, line: int, value: Scalar | Message) -> None:
        """Append a value to a field."""
        self._fields.setdefault(name, []).append(_Field(line, value))

    def unread(self) -> dict[str, int]:
        """Return the fields that nothing asked for, and the line of each."""
        return {name: f[0].line for name, f in self._fields.items() if name not in self._read}

    def messages(self, name: str) -> list[Message]:
        """Return the blocks of a field."""
        return self._all(name, Message, "a block in braces")

    def message(self, name: str) -> Message:
        """Return the one block of a field, or an empty one."""
        found = self.messages(name)
        return self._one(name, found) if found else Message(self.line)

    def texts(self, name: str) -> list[str]:
        """Return the strings of a field."""
        return self._all(name, str, "a string in quotes")

    def text(self, name: str, default: str | None = None) -> str:
        """Return the one string of a field."""
        return self._one(name, self.texts(name), default)

    def word(self, name: str, default: str) -> str:
        """Return the one bare word of a field."""
        return self._one(name, self._all(name, Word, "a word without quotes"), default)

    def flag(self, name: str, default: bool) -> bool:
        """Return the one truth value of a field."""
        word = self.word(name, str(default).lower())
        if word not in ("true", "false"):
            raise InvalidModelError(f"{self._place(name)} is {word}, expected true or false")
        return word == "true"

    def integers(self, name: str) -> list[int]:
        """Return the integers of a field."""
        return self._all(name, int, "an integer")

    def integer(self, name: str, default: int | None = None) -> int:
        """Return the one integer of a field."""
        return self._one(name, self.integers(name), default)

    def reals(self, name: str) -> list[float]:
        """Return the numbers of a field."""
        return [float(number) for number in self._all(name, (int, float), "a number")]

    def real(self, name: str, default: float) -> float:
        """Return the one number of a field."""
        return self._one(name, self.reals(name), default)

    def _all(self, name: str, kind: Any, expected: str) -> list[Any]:
        self._read.add(name)
        fields = self._fields.get(name, [])
        for field in fields:
            if not isinstance(field.value, kind) or (kind is str and isinstance(field.value, Word)):
                found = "a block" if isinstance(field.value, Message) else repr(field.value)
                raise InvalidModelError(
                    f"line {field.line}: {name} is {found[:80]}, expected {expected}"
                )
        return [field.value for field in fields]

    def _one(self, name: str, found: list[_Kind], default: _Kind | None = None) -> _Kind:
        if len(found) > 1:
            raise InvalidModelError(f"{self._place(name)} has {len(found)} values, expected one")
        value = found[0] if found else default
        if value is None:
            raise InvalidModelError(f"line {self.line}: the block lacks {name}")
        return value

    def _place(self, name: str) -> str:
        return f"line {self._fields[name][0].line}: {name}"


class _Token(NamedTuple):
    kind: str | None
    text: str
    line: int


_NUMBER = r"-?\s*(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?)(?![\w.])"
_TOKEN = re.compile(
    r"(?P<skip>(?:\s+|#[^\n]*)+)"
    rf"|(?P<number>{_NUMBER})"
    r"|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<string>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')"
    r"|(?P<sign>[{}<>\[\]:;,])",
    re.ASCII,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\"}


def parse(text: str) -> Message:
    """Return the message that `text` describes, or raise InvalidModelError naming the line."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidModelError(f"has {len(text)} characters, expected {MAX_CHARACTERS} at most")
    return _Parser(text).document()


class _Parser:
    """Recursive descent over the tokens, one ahead."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = next(self._tokens)

    def document(self) -> Message:
        root = Message(1)
        self._fields(root, "", 0)
        return root

    def _take(self) -> _Token:
        token = self._next
        if token.kind != "end":
            self._next = next(self._tokens)
        return token

    def _accept(self, signs: str) -> _Token | None:
        return self._take() if self._next.text in signs else None  # no other token is a sign

    def _fields(self, message: Message, end: str, depth: int) -> None:
        """Read fields up to the sign `end`, or to the end of the text."""
        while not (end and self._accept(end)):
            if self._next.kind == "end" and not end:
                return
            name = self._take()
            if name.kind != "word":
                raise _unexpected(name, f"a field or {end}" if end else "a field")
            colon = self._accept(":")
            if self._accept("["):
                self._list(message, name, depth)
            else:
                self._value(message, name, depth, colon is not None)
            self._accept(",;")

    def _list(self, message: Message, name: _Token, depth: int) -> None:
        if self._accept("]"):
            return
        self._value(message, name, depth, True)
        while self._accept(","):
            self._value(message, name, depth, True)
        if not self._accept("]"):
            raise _unexpected(self._next, ", or ]")

    def _value(self, message: Message, name: _Token, depth: int, scalar: bool) -> None:
        """Read a block, or a scalar where one is allowed."""
        opened = self._accept("{<")
        if opened is None:
            if not scalar:
                raise _unexpected(self._next, "a colon or a block")
            message.add(name.text, name.line, self._scalar())
            return
        if depth == MAX_DEPTH:
            raise InvalidModelError(f"line {opened.line}: blocks nest deeper than {MAX_DEPTH}")
        block = Message(opened.line)
        self._fields(block, "}" if opened.text == "{" else ">", depth + 1)
        message.add(name.text, name.line, block)

    def _scalar(self) -> Scalar:
        token = self._take()
        if token.kind == "word":
            return Word(token.text)
        if token.kind == "number":
            return _number(token)
        if token.kind != "string":
            raise _unexpected(token, "a value")
        parts = [_string(token)]
        while self._next.kind == "string":  # strings side by side are one, as in C
            parts.append(_string(self._take()))
        return "".join(parts)


def _tokens(text: str) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InvalidModelError(f"line {line}: {text[at : at + 20]!r} is no text format")
        kind, at = match.lastgroup, match.end()
        if kind != "skip":
            yield _Token(kind, match.group(), line)
        line += text.count("\n", match.start(), at)
    yield _Token("end", "the end of the text", line)


def _unexpected(token: _Token, expected: str) -> InvalidModelError:
    return InvalidModelError(f"line {token.line}: found {token.text[:40]!r}, expected {expected}")


def _number(token: _Token) -> int | float:
    text = "".join(token.text.split())
    digits = text.lstrip("-")
    if len(digits) > 40:
        raise InvalidModelError(f"line {token.line}: a number of {len(digits)} digits")
    try:
        if digits[:2] in ("0x", "0X"):
            return int(text, 16)
        if digits.isdecimal():
            return int(text, 8 if digits[0] == "0" else 10)
        return float(text.rstrip("fF"))
    except ValueError:
        raise _unexpected(token, "a number") from None


def _string(token: _Token) -> str:
    def unescape(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise InvalidModelError(f"line {token.line}: the escape {match[0]!r} is not supported")
        return _ESCAPES[match[1]]

    return re.sub(r"\\(.)", unescape, token.text[1:-1])
