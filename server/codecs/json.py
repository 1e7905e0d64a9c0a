"""application/json: reads every JSON convention, and responds in the convention of the request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import MalformedInput
from ..request import Head, Payload
from ..tensors import Array, ModelSpec
from . import Encoded, body_bytes
from .conventions import BARE, COLUMNS, INSTANCES, read_convention
from .fitting import check_values, decode_plan
from .json_documents import are_large, dump, parse
from .nested import may_hold_booleans
from .open_inference import STYLE as OPEN_INFERENCE
from .open_inference import OpenInference, is_open_inference, read_inputs

_CONTENT_TYPE = b"application/json"
_UTF8_NAMES = ("utf-8", "utf8", "us-ascii", "ascii")


class Json:
    """The conventions of :mod:`server.codecs.conventions`, and the JSON form of the Open Inference Protocol.

    NaN and infinity in outputs are written as ``null``.
    """

    media_types: tuple[str, ...] = ("application/json",)
    interpreted = True
    expanded_bytes = staticmethod(body_bytes)

    def __init__(self) -> None:
        self._open_inference = OpenInference()

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:  # noqa: ARG002
        """Read a body of any convention. Raises MalformedInput or UnprocessableInput."""
        if parameters:
            _check_charset(parameters)
        document, literals = parse(body)
        booleans = may_hold_booleans(body)
        plan = decode_plan(spec)
        if type(document) is dict:
            if len(document) == 1 and plan.single is not None:
                # The hot path. Rows that are objects, and malformed ones, take the general path below.
                rows = document.get("instances")
                if type(rows) is list and rows and type(rows[0]) is not dict:
                    array = plan.single.read(rows, booleans)
                    if literals:
                        check_values(array, plan.single.spec)
                    return Payload((array,), len(array) if plan.batchable else 1, INSTANCES)
            if is_open_inference(document):
                # Through SageMaker the media type has to carry the length of the JSON: other headers are dropped.
                return plan.checked(read_inputs(document, spec, by_media_type=True, booleans=booleans), literals)
        return plan.checked(read_convention(document, plan, booleans), literals)

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:
        """Write ``predictions`` (rows), ``outputs`` (columns) or a bare list, as the request; several outputs by name.

        Raises NotAcceptable if an output holds bytes that are not text.
        """
        style = payload.style
        if style == OPEN_INFERENCE:
            return self._open_inference.encode(outputs, payload, spec, name, version)
        reply: Any = outputs[0] if len(outputs) == 1 else _by_name(outputs, payload, spec)
        if style == COLUMNS:
            reply = {"outputs": reply}
        elif style != BARE:
            reply = {"predictions": reply}
        return dump(reply, are_large(outputs)), _CONTENT_TYPE, []


def _by_name(outputs: Sequence[Array], payload: Payload, spec: ModelSpec) -> Any:
    chosen = payload.wanted if payload.wanted is not None else range(len(outputs))
    named = {spec.outputs[index].name: outputs[index] for index in chosen}
    if payload.style == COLUMNS:
        return named
    if not spec.batchable or any(array.shape[:1] != (payload.rows,) for array in named.values()):
        return [named]  # there is no row of output for each row of input
    return [{name: array[row] for name, array in named.items()} for row in range(payload.rows)]


def _check_charset(parameters: Mapping[str, str]) -> None:
    charset = parameters.get("charset", "utf-8")
    if charset.lower() not in _UTF8_NAMES:
        raise MalformedInput(f'JSON is always UTF-8; charset "{charset}" is not read')
