"""What operators read: the metrics."""

from __future__ import annotations

from ..observe.metrics import CONTENT_TYPE, Metrics
from ..request import Head
from . import Responder, Route


class Admin:
    """Routes for whoever runs the server."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def metrics(self, head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG002 - the handler's signature
        responder.send(200, CONTENT_TYPE, self._metrics.exposition())

    def routes(self) -> list[Route]:
        return [Route("/metrics", ("GET",), lambda _: self.metrics, "Prometheus text format", "Operations")]
