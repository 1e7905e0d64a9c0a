"""SageMaker's container contract: ``/ping`` and ``/invocations``."""

from __future__ import annotations

from typing import Any

from ..codecs.media import Negotiator
from ..errors import SlipwayError
from ..lifecycle import Lifecycle
from ..models import Models
from ..observe.metrics import Metrics
from ..request import Head, InferRequest
from . import JSON, Reply, Route
from .failure import reply_failure
from .inference import infer, require_plain
from .script import Scripts

HEALTHY = b'{"status":"healthy"}'

BODIES: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {"example": {"instances": [[0.0, 1.0]]}},
        "text/csv": {"example": "0.0,1.0"},
        "application/x-npy": {"schema": {"type": "string", "format": "binary"}},
        "application/x-npz": {"schema": {"type": "string", "format": "binary"}},
    },
}


class SageMaker:
    """The two routes, over the default model."""

    def __init__(
        self, models: Models, lifecycle: Lifecycle, negotiator: Negotiator, scripts: Scripts, metrics: Metrics
    ) -> None:
        self._models = models
        self._scripts = scripts
        self._lifecycle = lifecycle
        self._negotiator = negotiator
        self._metrics = metrics

    def ping(self, head: Head, body: bytes, reply: Reply) -> None:  # noqa: ARG002 - a ping has no body
        """200 only when a model is loaded and warm and the server is not draining."""
        try:
            self._lifecycle.require_ready()
        except SlipwayError as error:
            reply_failure(error, head, reply)
        else:
            reply(200, JSON, HEALTHY)

    def invocations(self, head: Head, body: bytes, reply: Reply) -> InferRequest | None:
        """Codecs by ``Content-Type`` and ``Accept``, the model by default."""
        content_type = accept = encoding = None
        for name, value in head.headers:
            if name == b"content-type":
                content_type = value
            elif name == b"accept":
                accept = value
            elif name == b"content-encoding":
                encoding = value
        try:
            require_plain(encoding)
            model = self._models.ask_default(head)
            if model.scripted:
                return self._scripts.invoke(model, head, body, reply)
            codecs = self._negotiator.negotiate(content_type, accept)
        except SlipwayError as error:
            error = self._starting(error)
            self._metrics.refused[error.code] += 1
            reply_failure(error, head, reply)
            return None
        return infer(model, head, body, reply, codecs.reader, codecs.writer, codecs.parameters)

    def _starting(self, error: SlipwayError) -> SlipwayError:
        """While the model loads, its absence means 'not yet', whatever else is wrong with the request."""
        if not self._models.all():
            try:
                self._lifecycle.require_ready()
            except SlipwayError as waiting:
                return waiting
        return error

    def routes(self) -> list[Route]:
        return [
            Route(
                "/ping",
                ("GET", "POST"),
                lambda _: self.ping,
                "200 when a model is loaded and warm, else 503",
                "SageMaker",
            ),
            Route(
                "/invocations",
                ("POST",),
                lambda _: self.invocations,
                "Ask the model",
                "SageMaker",
                description="JSON (instances, inputs, Open Inference, MLflow, bare list), CSV, npy or npz; the answer "
                "follows `Accept` and the convention of the question. `X-Slipway-Timing: 1` asks for stage times in "
                "`Server-Timing`; `slipway-timing` in `X-Amzn-SageMaker-Custom-Attributes` for the same through "
                "SageMaker. `X-Request-Deadline-Ms` sets a deadline.",
                request_body=BODIES,
            ),
        ]
