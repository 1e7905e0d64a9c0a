"""The route of examples: the inputs of one request that a model takes, in the JSON of the Open Inference Protocol."""

from __future__ import annotations

import base64
import logging
from typing import Any

import numpy as np
import orjson

from ...errors import SlipwayError
from ...models import Models, ServedModel
from ...models.example import example
from ...request import Head
from ...tensors import Array, TensorSpec
from .. import JSON, Handler, Responder
from ..failure import send_failure
from ..inference import require_tensors
from ..offload import on_thread

log = logging.getLogger("slipway.dashboard")


def example_of(models: Models, name: str, version: str) -> Handler:
    """A handler that responds with ``{"stored": whether they are real samples, "inputs": [tensors]}``.

    A value of a BYTES input that is not text is in ``b64`` instead of ``data``. ``inputs`` is empty where an example
    would be too large. 400 for a script, 404 for an unknown model.
    """

    def handle(head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG001 - the handler's signature
        def made(end: Any) -> None:
            if isinstance(end, BaseException):
                log.error("making an example failed model=%s", model.name, exc_info=end)
                send_failure(SlipwayError("no example could be made; the server's log says why"), head, responder)
            else:
                responder.send(200, JSON, end)

        try:
            model = models.get(name, version)
            require_tensors(model)
        except SlipwayError as error:
            send_failure(error, head, responder)
        else:
            on_thread(lambda: _document(model), made)

    return handle


def _document(model: ServedModel) -> bytes:
    found = example(model)
    rows = [] if found is None else [_tensor(*one) for one in zip(model.spec.inputs, found.arrays, strict=True)]
    document = {"stored": found is not None and found.stored, "inputs": rows}
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _tensor(spec: TensorSpec, array: Array) -> dict[str, Any]:
    row: dict[str, Any] = {"name": spec.name, "datatype": spec.dtype.name, "shape": list(array.shape)}
    if array.dtype.kind != "O":
        return {**row, "data": np.ascontiguousarray(array).reshape(-1)}
    values = [one if isinstance(one, bytes) else str(one).encode() for one in array.reshape(-1).tolist()]
    try:
        return {**row, "data": [one.decode() for one in values]}
    except UnicodeDecodeError:
        return {**row, "b64": [base64.b64encode(one).decode() for one in values]}
