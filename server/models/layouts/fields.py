"""The fields of one message of ``config.pbtxt``, read by name and type; a field that the format lacks is refused."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import BrokenArtifact
from .text_format import Message, Scalar, Value

TRUTHS = {"true": True, "True": True, "t": True, "1": True, "false": False, "False": False, "f": False, "0": False}
INT32, INT64, UINT32, UINT64 = (
    (-(1 << 31), (1 << 31) - 1),
    (-(1 << 63), (1 << 63) - 1),
    (0, (1 << 32) - 1),
    (0, (1 << 64) - 1),
)


class Fields:
    """One message. Every reader raises BrokenArtifact, naming the field, for a value of another type."""

    def __init__(self, message: Message, known: Sequence[str], where: str = "") -> None:
        """``known``: the names that the format has; ``where`` is the path of the message, such as ``input[0]``."""
        self._message = message
        self._where = f"{where}." if where else ""
        unknown = next((name for name in message if name not in known), None)
        if unknown is not None:
            raise BrokenArtifact(f"the field {self._where}{unknown[:60]} is not known")

    def has(self, name: str) -> bool:
        return name in self._message

    def text(self, name: str) -> str:
        return self._text(self._one(name), name)

    def texts(self, name: str) -> list[str]:
        return [self._text(value, name) for value in self._message.get(name, [])]

    def whole(self, name: str, bounds: tuple[int, int]) -> int:
        """A whole number within the bounds of its type; 0 where the field is not there."""
        value = self._one(name)
        return 0 if value is None else self._whole(value, name, bounds)

    def wholes(self, name: str, bounds: tuple[int, int]) -> tuple[int, ...]:
        return tuple(self._whole(value, name, bounds) for value in self._message.get(name, []))

    def flag(self, name: str) -> bool:
        value = self._one(name)
        if value is None:
            return False
        text = value.text if isinstance(value, Scalar) and value.kind != "text" else ""
        if text not in TRUTHS:
            raise self.wrong(name, "true or false")
        return TRUTHS[text]

    def word(self, name: str, words: Sequence[str]) -> str:
        """One of an enumeration's words, or the word at the number that is written; the first where it is not there."""
        value = self._one(name)
        if value is None:
            return words[0]
        if isinstance(value, Scalar) and value.kind == "name" and value.text in words:
            return value.text
        if (
            isinstance(value, Scalar)
            and value.kind == "number"
            and value.text.isdecimal()
            and int(value.text) < len(words)
        ):
            return words[int(value.text)]
        raise self.wrong(name, f"one of {', '.join(words)}")

    def message(self, name: str) -> Message | None:
        value = self._one(name)
        return None if value is None else self._inner(value, name)

    def messages(self, name: str) -> list[Message]:
        return [self._inner(value, name) for value in self._message.get(name, [])]

    def only_one_of(self, *names: str) -> None:
        """Raises BrokenArtifact where more than one of these fields is there."""
        given = [name for name in names if name in self._message]
        if len(given) > 1:
            raise BrokenArtifact(f"only one of {self._where}{given[0]} and {self._where}{given[1]} may be there")

    def wrong(self, name: str, what: str) -> BrokenArtifact:
        return BrokenArtifact(f"the field {self._where}{name} must be {what}")

    def _one(self, name: str) -> Value | None:
        values = self._message.get(name, [])
        if len(values) > 1:
            raise BrokenArtifact(f"the field {self._where}{name} is there {len(values)} times")
        return values[0] if values else None

    def _text(self, value: Value | None, name: str) -> str:
        if value is None:
            return ""
        if not isinstance(value, Scalar) or value.kind != "text":
            raise self.wrong(name, "a text in quotes")
        return value.text

    def _whole(self, value: Value, name: str, bounds: tuple[int, int]) -> int:
        number = _number(value.text) if isinstance(value, Scalar) and value.kind == "number" else None
        if number is None or not bounds[0] <= number <= bounds[1]:
            raise self.wrong(name, f"a whole number from {bounds[0]} to {bounds[1]}")
        return number

    def _inner(self, value: Value, name: str) -> Message:
        if isinstance(value, Scalar):
            raise self.wrong(name, "a message in braces")
        return value


def _number(text: str) -> int | None:
    """A whole number in decimal, in hexadecimal (``0x``) or in octal (``0``); None for anything else."""
    digits = text.lstrip("-")
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[:1] == "0" and len(digits) > 1 else 10
    try:
        return int(text, base) if len(digits) < 30 else None
    except ValueError:
        return None
