"""The route ``/metrics``: all metrics in the Prometheus text format."""

from __future__ import annotations

from ..observe.metrics import CONTENT_TYPE, Metrics
from ..request import Head
from . import Responder, Route


def metrics_route(metrics: Metrics) -> Route:
    """``GET /metrics``."""

    def handle(head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG001 - the handler's signature
        responder.send(200, CONTENT_TYPE, metrics.exposition())

    return Route("/metrics", ("GET",), lambda _: handle, "Metrics in the Prometheus text format", "Operations")
