"""The wire format: infer requests taken apart, and responses put together, with few copies of raw tensors.

Raw contents are most of a large message. They are cut out of it as views, and the small rest is a message of its own.
Serialized protocol buffers that are joined are one message, so raw outputs are appended to a response as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from google.protobuf.message import DecodeError

from ..errors import MalformedInput
from .inference_pb2 import ModelInferRequest

CUT_BYTES = 16_384
"""A message above this size is taken apart here; a smaller one is parsed whole, which is faster."""

MOST_FIELDS = 10_000
"""Fields of the top level of a large message, which has a few for each tensor. Each costs about a microsecond of the
event loop, and some hundred bytes, however small it is."""

MODEL_NAME, MODEL_VERSION, IDENTITY, RAW_INPUTS = 1, 2, 3, 7
"""Fields of ModelInferRequest."""
RAW_OUTPUTS = 6
"""Field of ModelInferResponse."""
STREAM_ERROR, STREAM_RESPONSE = 1, 2
"""Fields of ModelStreamInferResponse."""

VARINT, EIGHT_BYTES, DELIMITED, FOUR_BYTES = 0, 1, 2, 5
LONGEST_VARINT = 10


class Address(NamedTuple):
    """Model and version that an infer request names, its id, and whether it has raw contents."""

    name: str
    version: str
    identity: str
    raw: bool


def address(body: bytes) -> Address:
    """What is needed of an infer request before it is decoded. Raises MalformedInput."""
    if len(body) <= CUT_BYTES:
        message = parse(body)
        return Address(message.model_name, message.model_version, message.id, bool(message.raw_input_contents))
    texts = {MODEL_NAME: b"", MODEL_VERSION: b"", IDENTITY: b""}
    raw = False
    for field, _, begin, end in _fields(body):
        if field in texts:
            texts[field] = body[begin:end]
        raw = raw or field == RAW_INPUTS
    try:
        name, version, identity = (text.decode() for text in texts.values())
    except UnicodeDecodeError as error:
        raise _malformed() from error
    return Address(name, version, identity, raw)


def opened(body: bytes) -> tuple[ModelInferRequest, Sequence[memoryview | bytes]]:
    """An infer request, and its raw contents, which the message may lack. Raises MalformedInput."""
    if len(body) <= CUT_BYTES:
        message = parse(body)
        return message, message.raw_input_contents
    view = memoryview(body)
    raw: list[memoryview | bytes] = []
    kept: list[memoryview] = []
    at = 0
    for field, head, begin, end in _fields(body):
        if field == RAW_INPUTS:
            raw.append(view[begin:end])
            kept.append(view[at:head])
            at = end
    kept.append(view[at:])
    return parse(b"".join(kept)), raw


def parse(body: bytes) -> ModelInferRequest:
    """The message of these bytes. Raises MalformedInput."""
    try:
        message: ModelInferRequest = ModelInferRequest.FromString(body)
    except DecodeError as error:
        raise _malformed() from error
    return message


def _malformed() -> MalformedInput:
    return MalformedInput("the message is not a well-formed ModelInferRequest")


def _fields(body: bytes) -> Iterable[tuple[int, int, int, int]]:
    """The fields of the top level that have a length: (number, first byte, and begin and end of the value)."""
    at, size, left = 0, len(body), MOST_FIELDS
    while at < size:
        if not left:
            raise MalformedInput(f"the message has more than {MOST_FIELDS:,} fields; send fewer tensors")
        left -= 1
        head = at
        tag, at = _varint(body, at)
        kind = tag & 7
        if kind == DELIMITED:
            length, begin = _varint(body, at)
            at = begin + length
            if at > size:
                raise _malformed()
            yield tag >> 3, head, begin, at
        elif kind == VARINT:
            at = _varint(body, at)[1]
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            at += 8 if kind == EIGHT_BYTES else 4
        else:
            raise _malformed()
    if at != size:
        raise _malformed()


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """The number that begins at ``at``, and where it ends. Raises MalformedInput."""
    number = 0
    for index, byte in enumerate(body[at : at + LONGEST_VARINT]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, at + index + 1
    raise _malformed()


def delimited(field: int, value: bytes) -> tuple[bytes, bytes]:
    """A field (number below 16) of bytes, text or a message, as two pieces: what precedes the value, and the value."""
    head = bytearray((field << 3 | DELIMITED,))
    length = len(value)
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head), value


def with_raw_outputs(message: bytes, raw: Iterable[bytes]) -> bytes:
    """A serialized ModelInferResponse with raw outputs appended."""
    pieces = [message]
    for one in raw:
        pieces += delimited(RAW_OUTPUTS, one)
    return b"".join(pieces)


def stream_response(response: bytes, error: str = "") -> bytes:
    """A serialized ModelStreamInferResponse around a serialized ModelInferResponse."""
    pieces = delimited(STREAM_RESPONSE, response)
    if not error:
        return b"".join(pieces)
    return b"".join((*delimited(STREAM_ERROR, error.encode(errors="replace")), *pieces))
