"""Bodies of one value: text/plain is one text, an image or other bytes are one value of a BYTES input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import MalformedInput, NotAcceptable, UnsupportedMedia
from ..request import Head, Payload
from ..tensors import RAW_BYTES, Array, ModelSpec
from . import Encoded, body_bytes
from .fitting import decode_plan

TEXT = "text/plain"


class Text:
    """The whole body is one text in UTF-8, line ends included, in requests and responses."""

    media_types: tuple[str, ...] = (TEXT,)
    interpreted = False
    expanded_bytes = staticmethod(body_bytes)

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:  # noqa: ARG002
        """Read the value. Raises MalformedInput, or UnsupportedMedia unless the model has a single BYTES input."""
        charset = parameters.get("charset", "utf-8").lower()
        if charset not in ("utf-8", "utf8", "us-ascii", "ascii"):
            raise MalformedInput(f'text is read as UTF-8 only; charset "{charset[:40]}" is not')
        if not body:
            raise MalformedInput("the body is empty; send a text")
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise MalformedInput(f"the body is not UTF-8: byte {error.start} is {body[error.start]:#04x}") from error
        return _one_value(text, spec, TEXT)

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:  # noqa: ARG002
        """Write one text. Raises NotAcceptable for any other outputs."""
        value = _only_value(outputs, payload, TEXT)
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError as error:
                raise NotAcceptable("the output is not text; ask for application/octet-stream") from error
        return value.encode(errors="replace"), b"text/plain; charset=utf-8", []


class Bytes:
    """The whole body is one value, such as an image."""

    media_types: tuple[str, ...] = ("application/octet-stream",)
    interpreted = False
    expanded_bytes = staticmethod(body_bytes)

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:  # noqa: ARG002
        """Read the value. Raises MalformedInput, or UnsupportedMedia unless the model has a single BYTES input."""
        if not body:
            raise MalformedInput("the body is empty; send the bytes of one value")
        if spec.inputs and spec.inputs[0].dtype is RAW_BYTES:
            return _one_value(body, spec, self.media_types[0])
        payload = _one_value("", spec, self.media_types[0])
        try:
            payload.arrays[0][...] = body.decode()
        except UnicodeDecodeError as error:
            raise MalformedInput("the body is not text in UTF-8, which this model requires") from error
        return payload

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:  # noqa: ARG002
        """Write one BYTES value. Raises NotAcceptable for any other outputs."""
        value = _only_value(outputs, payload, self.media_types[0])
        return value if isinstance(value, bytes) else value.encode(errors="replace"), b"application/octet-stream", []


def _one_value(value: str | bytes, spec: ModelSpec, media_type: str) -> Payload:
    plan = decode_plan(spec)
    if plan.single is None or plan.single.spec.dtype.itemsize or plan.single.spec.dtype.numpy.kind != "O":
        raise UnsupportedMedia(
            f"{media_type} needs a model with a single BYTES input; send application/json to this model"
        )
    shape = plan.single.spec.shape
    if any(size not in (-1, 1) for size in shape):
        raise UnsupportedMedia(f"{media_type} holds one value, a row of this model several; send application/json")
    array = np.empty(1, object)
    array[0] = value
    return plan.payload((array.reshape((1,) * len(shape)),))


def _only_value(outputs: Sequence[Array], payload: Payload, media_type: str) -> str | bytes:
    chosen = [outputs[index] for index in payload.wanted] if payload.wanted is not None else list(outputs)
    if len(chosen) == 1 and chosen[0].dtype.kind == "O" and chosen[0].size == 1:
        value = chosen[0].reshape(-1)[0]
        if isinstance(value, (str, bytes)):
            return value
    raise NotAcceptable(f"{media_type} holds one BYTES value, and the outputs are not one; ask for application/json")
