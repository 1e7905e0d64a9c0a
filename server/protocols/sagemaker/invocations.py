"""SageMaker's container contract: ``/ping`` and ``/invocations``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...codecs.media import Negotiator
from ...content_encoding import is_compressed
from ...errors import SlipwayError
from ...lifecycle import Lifecycle
from ...models import Models, ServedModel
from ...observe.metrics import Metrics
from ...request import Head, InferRequest
from .. import JSON, Handler, Responder, Route
from ..compression import Expander
from ..failure import send_failure
from ..inference import infer
from ..request_options import wants_stream
from .row_stream import stream_rows
from .script_calls import ScriptCalls
from .sessions import Sessions

HEALTHY = b'{"status":"healthy"}'

BODIES: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {"example": {"instances": [[0.0, 1.0]]}},
        "text/csv": {"example": "0.0,1.0"},
        "application/jsonlines": {"example": "[0.0,1.0]\n[2.0,3.0]\n"},
        "application/x-recordio-protobuf": {"schema": {"type": "string", "format": "binary"}},
        "application/x-npy": {"schema": {"type": "string", "format": "binary"}},
        "application/x-npz": {"schema": {"type": "string", "format": "binary"}},
        "text/plain": {"example": "one text, for a model with one BYTES input"},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}


class SageMaker:
    """The two routes of the default model."""

    def __init__(
        self,
        models: Models,
        lifecycle: Lifecycle,
        negotiator: Negotiator,
        scripts: ScriptCalls,
        metrics: Metrics,
        expander: Expander,
        stream_rows: int = 0,
        sessions: Sessions | None = None,
    ) -> None:
        """``stream_rows``: rows of lines that are sent at a time; 0: one batch at a time, and only to requests for a
        stream. ``sessions``: None if they are not enabled."""
        self._stream_rows = stream_rows
        self._sessions = sessions
        self._models = models
        self._scripts = scripts
        self._lifecycle = lifecycle
        self._negotiator = negotiator
        self._metrics = metrics
        self._expander = expander

    def ping(self, head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG002 - a ping has no body
        """200 if a model is loaded and warm and the server is not draining, else 503."""
        try:
            self._lifecycle.require_ready()
        except SlipwayError as error:
            send_failure(error, head, responder)
        else:
            responder.send(200, JSON, HEALTHY)

    def handler_for(self, find: Callable[[Head], ServedModel]) -> Handler:
        """A handler for the model that ``find`` returns, with codecs by ``Content-Type`` and ``Accept``."""

        def ask(head: Head, body: bytes, responder: Responder) -> InferRequest | None:
            content_type = accept = encoding = None
            for name, value in head.headers:
                if name == b"content-type":
                    content_type = value
                elif name == b"accept":
                    accept = value
                elif name == b"content-encoding":
                    encoding = value
            if encoding is not None and is_compressed(encoding):
                self._expander.pass_on(ask, head, body, encoding, responder)
                return None
            try:
                model = find(head)
                if model.scripted:
                    return self._scripts.invoke(model, head, body, responder)
                codecs = self._negotiator.negotiate(content_type, accept)
            except SlipwayError as error:
                error = self._starting(error)
                self._metrics.refused[error.code] += 1
                send_failure(error, head, responder)
                return None
            if codecs.lines and self._streams(model, head):
                how = codecs.reader, codecs.writer, codecs.parameters
                return stream_rows(model, head, body, responder, *how, self._stream_rows)
            return infer(model, head, body, responder, codecs.reader, codecs.writer, codecs.parameters)

        return ask

    def _streams(self, model: ServedModel, head: Head) -> bool:
        """Whether lines are streamed: by the setting, or if the platform's client asks for a stream."""
        asked = self._stream_rows > 0 or wants_stream(head)
        return asked and model.independent and model.spec.batchable

    def _starting(self, error: SlipwayError) -> SlipwayError:
        """While no model is loaded, NotReady in place of any other error."""
        if not self._models.all():
            try:
                self._lifecycle.require_ready()
            except SlipwayError as waiting:
                return waiting
        return error

    def health(self) -> Route:
        return Route(
            "/ping", ("GET", "POST"), lambda _: self.ping, "200 when a model is loaded and warm, else 503", "SageMaker"
        )

    def routes(self) -> list[Route]:
        """Both routes."""
        invocations = self.handler_for(self._models.ask_default)
        if self._sessions is not None:
            invocations = self._sessions.around(invocations)
        return [
            self.health(),
            Route(
                "/invocations",
                ("POST",),
                lambda _: invocations,
                "Run the model",
                "SageMaker",
                description="JSON (instances, inputs, Open Inference, MLflow, bare list), JSON lines, CSV, npy, npz, "
                "RecordIO, or one text or image; the response follows `Accept` and the convention of the request. "
                "`X-Slipway-Timing: 1` requests stage times in `Server-Timing`; `slipway-timing` in "
                "`X-Amzn-SageMaker-Custom-Attributes` requests them through SageMaker. `X-Request-Deadline-Ms` sets a "
                "deadline.",
                request_body=BODIES,
            ),
        ]
