"""TorchServe's inference API: ``/predictions/NAME`` and ``/predictions/NAME/VERSION``, as ``curl -T FILE`` uses it."""

from __future__ import annotations

import contextlib

from ..errors import UnknownModel
from ..models import Models, ServedModel
from ..request import Head, InferRequest
from . import Handler, Responder, Route
from .sagemaker.invocations import BODIES, SageMaker

TAG = "TorchServe"
ROOT = "/predictions/{name}"
JSON, BYTES = b"application/json", b"application/octet-stream"


class Predictions:
    """The routes. They answer as ``/invocations`` does, for a model by name."""

    def __init__(self, models: Models, front: SageMaker) -> None:
        self._models = models
        self._front = front

    def routes(self) -> list[Route]:
        methods = ("POST", "PUT")
        return [
            Route(ROOT, methods, self._predict, "Run a model", TAG, request_body=BODIES),
            Route(ROOT + "/{version}", methods, self._predict, "Run a version", TAG, request_body=BODIES),
        ]

    def _predict(self, path: dict[str, str]) -> Handler:
        def find(head: Head) -> ServedModel:
            if "version" in path:
                return self._models.get(path["name"], path["version"])
            return self._models.ask(path["name"], head)

        answer = self._front.handler_for(find)

        def handle(head: Head, body: bytes, responder: Responder) -> InferRequest | None:
            if not head.get(b"content-type"):
                with contextlib.suppress(UnknownModel):  # which the answer says
                    model = self._models.get(path["name"], path.get("version"))
                    head.headers = [*head.headers, *_usual(model)]
            return answer(head, body, responder)

        return handle


def _usual(model: ServedModel) -> list[tuple[bytes, bytes]]:
    """What a body without a content type is: bytes for a model of one such input, else JSON. Scripts decide that."""
    if model.scripted:
        return []
    inputs = model.spec.inputs
    return [(b"content-type", BYTES if len(inputs) == 1 and inputs[0].dtype.numpy.kind == "O" else JSON)]
