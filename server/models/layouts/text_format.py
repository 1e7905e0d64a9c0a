"""The text format of protocol buffers, which ``config.pbtxt`` is written in: text to fields, without a schema.

The package protobuf is not required: it would double the pure Python wheels of the server for this one file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import BrokenArtifact

DEEPEST = 100
"""Messages inside each other, as many as protobuf's own reader allows."""

TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f\v]+|\#[^\n]*)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>(?:0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?)(?![A-Za-z0-9_.]))
    |(?P<text>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')
    |(?P<sign>[-{}<>\[\]:,;])""",
    re.VERBOSE,
)
ESCAPE = re.compile(rb"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
SIMPLE = {b"a": 7, b"b": 8, b"f": 12, b"n": 10, b"r": 13, b"t": 9, b"v": 11, b"\\": 92, b"'": 39, b'"': 34, b"?": 63}


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as it is written: ``kind`` is ``text`` (unescaped here), ``number`` or ``name`` (a word)."""

    kind: str
    text: str


Message = dict[str, "list[Value]"]
"""The values of each field, in the order in which they are written. A list ``[1, 2]`` is two values."""

Value = Scalar | Message


def parse(text: str) -> Message:
    """The fields of a message. Raises BrokenArtifact with the line of what is not the text format."""
    return _Reader(text).message("", 0)


class _Reader:
    """Tokens one after another; ``_kind`` and ``_text`` are the next one, both empty at the end."""

    def __init__(self, text: str) -> None:
        self._line = 1
        self._tokens = self._split(text)
        self._kind, self._text = next(self._tokens)

    def message(self, end: str, depth: int) -> Message:
        """Fields up to the sign ``end``, which is left; an empty ``end`` is the end of the text."""
        if depth > DEEPEST:
            raise self._wrong(f"messages are more than {DEEPEST} deep")
        fields: Message = {}
        while self._kind:
            if self._text == end and self._kind == "sign":
                return fields
            name = self._take("name", "the name of a field")
            fields.setdefault(name, []).extend(self._values(depth))
            if self._is(",") or self._is(";"):
                self._next()
        if end:
            raise self._wrong(f"{end!r} is missing")
        return fields

    def _values(self, depth: int) -> list[Value]:
        colon = self._is(":")
        if colon:
            self._next()
        if not self._is("["):
            return [self._value(depth, colon)]
        self._next()
        values: list[Value] = []
        while not self._is("]"):
            values.append(self._value(depth, colon))
            if not self._is("]"):
                self._sign(",")
                if self._is("]"):
                    raise self._wrong("a value was expected after ','")
        self._next()
        return values

    def _value(self, depth: int, colon: bool) -> Value:
        if self._is("{") or self._is("<"):
            end = "}" if self._is("{") else ">"
            self._next()
            inner = self.message(end, depth + 1)
            self._next()
            return inner
        if not colon:
            raise self._wrong("':' or '{' was expected")
        if self._kind == "text":
            parts = b""
            while self._kind == "text":
                parts += self._unescaped(self._text[1:-1])
                self._next()
            try:
                return Scalar("text", parts.decode())
            except UnicodeDecodeError as error:
                raise self._wrong("a text is not UTF-8") from error
        minus = self._is("-")
        if minus:
            self._next()
        if self._kind not in ("number", "name"):
            raise self._wrong("a value was expected")
        kind, text = self._kind, ("-" if minus else "") + self._text
        self._next()
        return Scalar(kind, text)

    def _unescaped(self, text: str) -> bytes:
        def byte(found: re.Match[bytes]) -> bytes:
            code = found[1]
            if code in SIMPLE:
                return bytes([SIMPLE[code]])
            if code[:1] in b"uU" and len(code) > 1:
                return self._character(int(code[1:], 16))
            if code[:1] in b"xX" and len(code) > 1:
                return bytes([int(code[1:], 16)])
            if code[:1].isdigit() and code[:1] < b"8" and int(code, 8) < 256:
                return bytes([int(code, 8)])
            raise self._wrong("a text has an unknown escape")

        return ESCAPE.sub(byte, text.encode(errors="replace"))

    def _character(self, number: int) -> bytes:
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise self._wrong("a text has an escape that is no character")
        return chr(number).encode()

    def _is(self, sign: str) -> bool:
        return self._kind == "sign" and self._text == sign

    def _sign(self, sign: str) -> None:
        if not self._is(sign):
            raise self._wrong(f"{sign!r} was expected")
        self._next()

    def _take(self, kind: str, what: str) -> str:
        if self._kind != kind:
            raise self._wrong(f"{what} was expected")
        text = self._text
        self._next()
        return text

    def _next(self) -> None:
        self._kind, self._text = next(self._tokens)

    def _split(self, text: str) -> Iterator[tuple[str, str]]:
        at = 0
        while at < len(text):
            found = TOKEN.match(text, at)
            if found is None:
                raise BrokenArtifact(f"line {self._line}: {text[at : at + 20]!a} is not understood")
            at = found.end()
            if found.lastgroup != "space":
                yield str(found.lastgroup), found[0]
            self._line += found[0].count("\n")
        while True:
            yield "", ""

    def _wrong(self, what: str) -> BrokenArtifact:
        return BrokenArtifact(f"line {self._line}: {what}, not {ascii(self._text[:40]) if self._kind else 'the end'}")
