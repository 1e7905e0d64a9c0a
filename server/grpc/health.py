"""The health of the server and of its inference service, as grpc.health.v1 has it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from ..lifecycle import Lifecycle

SERVICE = "grpc.health.v1.Health"

SERVING, NOT_SERVING, SERVICE_UNKNOWN = (
    getattr(health_pb2.HealthCheckResponse, name) for name in ("SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
)


class Health:
    """Answers Check, Watch and List. ``services``: names beside the empty one, which stands for the whole server."""

    def __init__(self, lifecycle: Lifecycle, services: tuple[str, ...]) -> None:
        self._lifecycle = lifecycle
        self._services = ("", *services)
        self._ready = lifecycle.ready
        self._changed = asyncio.Event()
        self._stopped = False

    def refresh(self) -> None:
        """Tell the watchers if the server has become ready, or unready."""
        if self._ready != self._lifecycle.ready:
            self._ready = self._lifecycle.ready
            self._wake()

    def stop(self) -> None:
        """End all watches after a last status."""
        self._stopped = True
        self._wake()

    async def check(self, body: bytes, context: Any) -> bytes:
        """The status of one service. NOT_FOUND for an unknown one."""
        status = self._status(await _service(body, context))
        if status == SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no service of this name is served")
        return _response(status)

    async def list_all(self, body: bytes, context: Any) -> bytes:  # noqa: ARG002 - the handlers' signature
        """The status of all services."""
        rows = {name: health_pb2.HealthCheckResponse(status=self._status(name)) for name in self._services}
        serialized: bytes = health_pb2.HealthListResponse(statuses=rows).SerializeToString()
        return serialized

    async def watch(self, body: bytes, context: Any) -> None:
        """The status of one service now, and at each change until the client leaves or the server stops."""
        service = await _service(body, context)
        last = None
        while True:
            changed, status = self._changed, self._status(service)
            if status != last:
                await context.write(_response(status))
                last = status
            if self._stopped:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is draining")
            await changed.wait()

    def _status(self, service: str) -> Any:
        if service not in self._services:
            return SERVICE_UNKNOWN
        return SERVING if self._lifecycle.ready else NOT_SERVING

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def _service(body: bytes, context: Any) -> str:
    """The service that a request names."""
    try:
        return str(health_pb2.HealthCheckRequest.FromString(body).service)
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message is not a well-formed HealthCheckRequest")
        raise AssertionError("abort has raised") from None


def _response(status: Any) -> bytes:
    serialized: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    return serialized
