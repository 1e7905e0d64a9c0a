"""The text format: the same values as protobuf's own reader, and a refusal where that refuses."""

from __future__ import annotations

import random
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from server.errors import BrokenArtifact
from server.models.layouts.fields import INT32, INT64, UINT64, Fields
from server.models.layouts.text_format import DEEPEST, parse

KNOWN = ("text", "texts", "word", "flag", "small", "large", "count", "inner", "inners")
WORDS = ("NONE", "ONE", "TWO")
SEED = 20_261_130


def message_class() -> Any:
    """The class of a message with a field of each type that config.pbtxt has."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="fuzz.proto", package="fuzz", syntax="proto3")
    words = file.enum_type.add(name="Word")
    for number, word in enumerate(WORDS):
        words.value.add(name=word, number=number)
    message = file.message_type.add(name="Message")
    types = {
        "text": kind.TYPE_STRING,
        "texts": kind.TYPE_STRING,
        "word": kind.TYPE_ENUM,
        "flag": kind.TYPE_BOOL,
        "small": kind.TYPE_INT32,
        "large": kind.TYPE_INT64,
        "count": kind.TYPE_UINT64,
        "inner": kind.TYPE_MESSAGE,
        "inners": kind.TYPE_MESSAGE,
    }
    for number, (name, type_) in enumerate(types.items(), 1):
        label = kind.LABEL_REPEATED if name in ("texts", "large", "inners") else kind.LABEL_OPTIONAL
        names = {kind.TYPE_ENUM: ".fuzz.Word", kind.TYPE_MESSAGE: ".fuzz.Message"}
        message.field.add(name=name, number=number, type=type_, label=label, type_name=names.get(type_))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("fuzz.Message"))


MESSAGE = message_class()


def ours(message: Any) -> dict[str, Any]:
    """What our readers say of a message."""
    fields = Fields(message, KNOWN)
    inner = fields.message("inner")
    return {
        "text": fields.text("text"),
        "texts": fields.texts("texts"),
        "word": WORDS.index(fields.word("word", WORDS)),
        "flag": fields.flag("flag"),
        "small": fields.whole("small", INT32),
        "large": list(fields.wholes("large", INT64)),
        "count": fields.whole("count", UINT64),
        "inner": None if inner is None else ours(inner),
        "inners": [ours(one) for one in fields.messages("inners")],
    }


def theirs(message: Any) -> dict[str, Any]:
    """What protobuf says of a message."""
    return {
        **{name: getattr(message, name) for name in ("text", "word", "flag", "small", "count")},
        "texts": list(message.texts),
        "large": list(message.large),
        "inner": theirs(message.inner) if message.HasField("inner") else None,
        "inners": [theirs(one) for one in message.inners],
    }


def both(text: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The values by our reader and by protobuf's; None where the text is refused."""
    try:
        expected = theirs(text_format.Parse(text, MESSAGE()))
    except (text_format.ParseError, UnicodeDecodeError, DeprecationWarning):  # the last: an unknown escape
        expected = None
    try:
        found = ours(parse(text))
    except BrokenArtifact:
        found = None
    return found, expected


class Writer:
    """Random texts in every notation of the format."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def message(self, depth: int = 0) -> str:
        names = self.random.sample(KNOWN, self.random.randint(0, 5))
        return self.space().join(self.field(name, depth) for name in names)

    def space(self) -> str:
        return self.random.choice([" ", "\n", '  # a comment: { [ "\n', "\t", " ; ", " , "]).replace(" , ", " ")

    def field(self, name: str, depth: int) -> str:
        if name in ("inner", "inners"):
            if depth > 3:
                return ""
            colon, (begin, end) = self.random.choice(["", ":", " : "]), self.random.choice([("{", "}"), ("<", ">")])
            one = f"{begin}{self.message(depth + 1)}{self.space().replace(';', '')}{end}"
            return f"{name}{colon}{one}{self.random.choice(['', ',', ';'])}"
        value = {"text": self.text, "texts": self.text, "word": self.word, "flag": self.flag}.get(name, self.number)
        if name in ("texts", "large") and self.random.random() < 0.5:
            values = ", ".join(value() for _ in range(self.random.randint(0, 3)))
            return f"{name}: [{values}]"
        return f"{name}:{self.random.choice(['', ' '])}{value()}"

    def text(self) -> str:
        parts = ["a", "é", "\\n", "\\x41", "\\101", "\\'", '\\"', "\\\\", "\\t", "#", "{", "\\u00e9", "\\U0001F600"]
        inner = "".join(self.random.choice(parts) for _ in range(self.random.randint(0, 4)))
        quote = self.random.choice("\"'")
        return f"{quote}{inner}{quote}" + (" 'more'" if self.random.random() < 0.2 else "")

    def word(self) -> str:
        return self.random.choice([*WORDS, "1", "2"])

    def flag(self) -> str:
        return self.random.choice(["true", "false", "True", "False", "t", "f", "0", "1"])

    def number(self) -> str:
        return self.random.choice(["0", "7", "0x1F", "017", str(self.random.randrange(1 << 31))])


def test_random_texts_have_protobufs_values() -> None:
    writer, read = Writer(SEED), 0
    for _ in range(1500):
        text = writer.message()
        found, expected = both(text)
        assert found == expected, text
        read += expected is not None
    assert read > 1000


def test_damaged_texts_are_refused_as_protobuf_refuses_them() -> None:
    """What protobuf reads has the same values here, and what it refuses is refused, except for words without a name."""
    writer, refused = Writer(SEED + 1), 0
    pool = list("{}<>[]:;,\"'#\\-.0x9a \n\0é")
    pool += ["inner", "text", "flag: 1", "large: -5", "count: -1", "small: 99999999999"]
    for _ in range(3000):
        text = writer.message()
        at = writer.random.randint(0, len(text))
        damaged = text[:at] + writer.random.choice(pool) + text[at + writer.random.randint(0, 3) :]
        found, expected = both(damaged)
        if expected is not None and has_open_word(expected):
            expected = None
        assert found == expected, repr(damaged)
        refused += expected is None
    assert refused > 1000


def has_open_word(values: dict[str, Any]) -> bool:
    """Whether an enumeration has a number without a word, which protobuf keeps and we refuse."""
    inner = [*values["inners"], *([values["inner"]] if values["inner"] is not None else [])]
    return not 0 <= values["word"] < len(WORDS) or any(has_open_word(one) for one in inner)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb {", r"line 2: '}' is missing"),
        ("a", "':' or '{' was expected"),
        ("a: 'x", 'line 1: "\'x" is not understood'),
        ("a: [1, ]", "a value was expected after ','"),
        ("a: [1 2]", "',' was expected"),
        ("1: 2", "the name of a field was expected"),
        ("a: }", "a value was expected"),
        ("a: '\\xzz'", "an unknown escape"),
        ("a: '\\ud800'", "no character"),
        ("a: '\\xff'", "not UTF-8"),
        ("a {" * (DEEPEST + 5), "deep"),
        ("a: 12abc", "not understood"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(BrokenArtifact, match=reason):
        parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("textt: 'x'", "the field textt is not known"),
        ("text: 'a' text: 'b'", "text is there 2 times"),
        ("small: 2147483648", "small must be a whole number"),
        ("count: -1", "count must be"),
        ("flag: 2", "flag must be true or false"),
        ("flag: 'true'", "flag must be true or false"),
        ("word: THREE", "word must be one of NONE, ONE, TWO"),
        ("word: 3", "word must be one of"),
        ("inner: 3", "inner must be a message"),
        ("text: 3", "text must be a text"),
        ("small: 1e3", "small must be"),
        ("small: 0x", "line 1"),
        ("small: 08", "small must be"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(BrokenArtifact, match=reason):
        ours(parse(text))
