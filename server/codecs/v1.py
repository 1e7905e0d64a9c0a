"""The V1 protocol's predict request and response: the JSON of TensorFlow Serving, and of KServe's own servers.

Rows are ``instances`` and give ``predictions``; columns are ``inputs`` and give ``outputs``. Outputs have names where
there are several.
Bytes are ``{"b64": base64}`` in both directions: in a response where an output is not text, or is named ``..._bytes``.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import MalformedInput
from ..request import Head, Payload
from ..tensors import Array, ModelSpec
from . import Encoded, body_bytes
from .conventions import read_convention
from .fitting import decode_plan
from .json import Json
from .json_documents import parse
from .nested import may_hold_booleans, shown

SIGNATURE = "serving_default"
"""The one signature of every model."""

_FORMS = ("instances", "inputs")
_BYTES_NAME = "_bytes"


class V1Json:
    """Reads bodies of any Content-Type: clients of this protocol send JSON under any name, or none."""

    media_types: tuple[str, ...] = ("application/json",)
    interpreted = True
    expanded_bytes = staticmethod(body_bytes)

    def __init__(self) -> None:
        self._json = Json()

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:  # noqa: ARG002
        """Read ``instances`` or ``inputs``. Raises MalformedInput or UnprocessableInput."""
        document, literals = parse(body)
        return self.read(document, literals, spec, may_hold_booleans(body))

    def read(self, document: Any, literals: bool, spec: ModelSpec, booleans: bool = True) -> Payload:
        """The payload of a parsed body. ``literals``, ``booleans``: whether it may hold NaN or Infinity, true or false.

        Raises MalformedInput or UnprocessableInput.
        """
        if type(document) is not dict:
            raise MalformedInput(f'the body must be a JSON object with "instances" or "inputs", got {shown(document)}')
        forms = [key for key in _FORMS if key in document]
        if not forms and "specversion" in document:
            raise MalformedInput("a cloud event needs the Content-Type application/cloudevents+json")
        if len(forms) != 1:
            have = "both" if forms else "neither"
            raise MalformedInput(f'the body must have either "instances" (rows) or "inputs" (columns), it has {have}')
        _check_signature(document)
        plan = decode_plan(spec)
        payload = read_convention({forms[0]: document[forms[0]]}, plan, booleans)
        return plan.checked(payload, literals)

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:
        """Write ``predictions`` or ``outputs``. NaN and infinity are ``null``."""
        arrays = [
            _packed(array, tensor.name) if array.dtype.kind == "O" else array
            for array, tensor in zip(outputs, spec.outputs, strict=True)
        ]
        return self._json.encode(arrays, payload, spec, name, version)


def _check_signature(document: Mapping[str, Any]) -> None:
    """Raises MalformedInput for another signature than the one that every model has."""
    given = document.get("signature_name")
    if given not in (None, "", SIGNATURE):
        raise MalformedInput(f'signature {shown(given)} is not known; leave signature_name out, or send "{SIGNATURE}"')


def _packed(array: Array, name: str) -> Array:
    """Strings as JSON has them: text as it is, bytes as an object."""
    packed = np.empty(array.size, object)
    for index, value in enumerate(array.reshape(-1).tolist()):
        packed[index] = _value(value, name.endswith(_BYTES_NAME))
    return packed.reshape(array.shape)


def _value(value: Any, binary: bool) -> Any:
    if isinstance(value, bytes) and not binary:
        try:
            return value.decode()
        except UnicodeDecodeError:
            binary = True
    if not binary or not isinstance(value, (str, bytes)):
        return value
    raw = value if isinstance(value, bytes) else value.encode(errors="replace")
    return {"b64": binascii.b2a_base64(raw, newline=False).decode()}
