"""The routes of models under ``/v2``: health, metadata, configuration, statistics, infer (JSON and binary tensors)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import orjson

from ...codecs.open_inference import OpenInference as Codec
from ...content_encoding import is_compressed
from ...errors import SlipwayError
from ...lifecycle import Lifecycle, Phase
from ...models import Models, ServedModel
from ...observe.metrics import Metrics
from ...request import Head, InferRequest
from .. import JSON, Handler, Responder, Route
from ..background import Background
from ..compression import Expander
from ..failure import refuse, send_failure
from ..inference import infer, require_tensors
from ..listing import send_listing
from .configuration import configuration
from .metadata import describe
from .statistics import added, now

EXTENSIONS = [
    *("binary_tensor_data", "classification", "model_configuration", "parameters", "schedule_policy", "statistics")
]
"""What the routes of this module provide beyond the protocol's core, in Triton's words."""
TAG = "Open Inference Protocol"
ROOT = "/v2/models/{name}"
VERSIONED = ROOT + "/versions/{version}"
STATISTICS = "/v2/models/stats"
"""Of all models. A model of the name ``stats`` is described under its version only."""

INFER_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "example": {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.0, 1.0]}]}
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}


Gather = Callable[[list[list[str]]], Awaitable[list[Any]]]
"""The statistics of versions, given as pairs of name and version, in each of the other processes of this server."""


class OpenInference:
    """The routes under ``/v2``, for all models."""

    def __init__(
        self,
        models: Models,
        lifecycle: Lifecycle,
        metrics: Metrics,
        expander: Expander,
        version: str,
        extensions: Sequence[str] = (),
        gather: Gather | None = None,
    ) -> None:
        """``extensions``: names of further extensions, which other routes provide. ``gather``: asks the other processes
        of this server for the statistics of versions; None: there is no other process."""
        self._gather = gather
        self._background = Background()
        self._expander = expander
        self._models = models
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._server = {"name": "slipway", "version": version, "extensions": [*EXTENSIONS, *extensions]}
        self.codec = Codec()

    def routes(self) -> list[Route]:
        get = ("GET",)
        both = [
            ("", get, self._described(describe), "Inputs, outputs and platform of a model", None),
            ("/ready", get, self._ready, "Whether the model is ready", None),
            ("/config", get, self._described(_configuration), "Batch size, instances and batching of a model", None),
            ("/stats", get, self._statistics, "Requests, runs and their times, by version", None),
            ("/infer", ("POST",), self._infer, "Run a model by name", INFER_BODY),
        ]
        return [
            Route("/v2", get, lambda _: self.server, "Name, version and extensions of the server", TAG),
            Route("/v2/health/live", get, lambda _: self.live, "200 while the process runs", TAG),
            Route("/v2/health/ready", get, lambda _: self.ready, "200 when all models are ready, else 503", TAG),
            Route(STATISTICS, get, lambda _: self.statistics, "Requests, runs and their times of all models", TAG),
            *(
                Route(root + tail, methods, bind, text, TAG, request_body=body)
                for root in (ROOT, VERSIONED)
                for tail, methods, bind, text, body in both
            ),
        ]

    def server(self, head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG002 - the handler's signature
        responder.send(200, JSON, orjson.dumps(self._server))

    def live(self, head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG002 - the handler's signature
        responder.send(200 if self._lifecycle.phase is not Phase.FAILED else 503, JSON, b'{"live":true}')

    def ready(self, head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG002 - the handler's signature
        try:
            self._lifecycle.require_ready()
        except SlipwayError as error:
            send_failure(error, head, responder)
        else:
            responder.send(200, JSON, b'{"live":true,"ready":true}')

    def _infer(self, path: dict[str, str]) -> Handler:
        name, version = path["name"], path.get("version")

        def handle(head: Head, body: bytes, responder: Responder) -> InferRequest | None:
            encoding = head.get(b"content-encoding")
            if encoding is not None and is_compressed(encoding):
                self._expander.pass_on(handle, head, body, encoding, responder)
                return None
            try:
                model = self._models.ask(name, head) if version is None else self._models.get(name, version)
                require_tensors(model)
            except SlipwayError as error:
                self._refuse(error, head, responder)
                return None
            return infer(model, head, body, responder, self.codec, self.codec)

        return handle

    def statistics(self, head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG002 - the handler's signature
        self._send_statistics(self._models.all(), head, responder)

    def _described(self, document: Callable[[ServedModel, list[str]], dict[str, Any]]) -> Callable[..., Handler]:
        """Handlers that respond with a document of a model and its ready versions."""

        def bind(path: dict[str, str]) -> Handler:
            def handle(head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG001 - the handler's signature
                model = self._find(path["name"], path.get("version"), head, responder)
                if model is not None:
                    versions = [model.version] if "version" in path else self._models.versions(model.name)
                    responder.send(200, JSON, orjson.dumps(document(model, versions)))

            return handle

        return bind

    def _statistics(self, path: dict[str, str]) -> Handler:
        """The statistics of one version, or of all: first the one that answers, then from the highest on."""

        def handle(head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG001 - the handler's signature
            model = self._find(path["name"], path.get("version"), head, responder)
            if model is None:
                return
            others = [] if "version" in path else self._models.of(model.name).ready()
            answering = [one.model for one in others if one.model is not None and one.model is not model]
            self._send_statistics([model, *answering], head, responder)

        return handle

    def _send_statistics(self, models: Sequence[ServedModel], head: Head, responder: Responder) -> None:
        def send(others: list[Any]) -> None:
            theirs = [{(row["name"], row["version"]): row for row in rows} for rows in others]
            ours = (now(model) for model in models)
            rows = (added(row, [one.get((row["name"], row["version"])) for one in theirs]) for row in ours)
            send_listing(rows, lambda stats: orjson.dumps({"model_stats": stats}), head, responder)

        if self._gather is None:
            send([])
        else:
            asked = [[model.name, model.version] for model in models]
            self._background.run(head, responder, partial(self._gather, asked), send)

    def _ready(self, path: dict[str, str]) -> Handler:
        def handle(head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG001 - the handler's signature
            model = self._find(path["name"], path.get("version"), head, responder)
            if model is not None:
                ready = self._lifecycle.phase is Phase.READY and not model.scheduler.stalled
                responder.send(200 if ready else 503, JSON, orjson.dumps({"name": model.name, "ready": ready}))

        return handle

    def _find(self, name: str, version: str | None, head: Head, responder: Responder) -> ServedModel | None:
        try:
            return self._models.get(name, version)
        except SlipwayError as error:
            self._refuse(error, head, responder)
            return None

    def _refuse(self, error: SlipwayError, head: Head, responder: Responder) -> None:
        refuse(error, self._lifecycle, self._metrics, head, responder)


def _configuration(model: ServedModel, versions: list[str]) -> dict[str, Any]:
    return configuration(model, len(versions))
