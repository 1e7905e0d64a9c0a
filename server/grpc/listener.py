"""The listener: the port, the limits of its connections, the table of calls, and the end of all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from ..errors import BadSetting, Unauthorized
from ..http.limits import ProcessAccount
from ..lifecycle import Lifecycle
from ..models import Models
from ..observe.metrics import Metrics
from ..protocols import Route
from ..protocols.api_keys import ApiKeys
from ..request import Head
from .call import guarded, metadata_of
from .control import REFUSED, Control
from .health import SERVICE as HEALTH
from .health import Health
from .inference import Inference

log = logging.getLogger("slipway.grpc")

SERVICE = "inference.GRPCInferenceService"

OPEN = frozenset(("ServerLive", "ServerReady"))
"""Calls that need no API key."""

STREAMS = 1_024
"""Calls of one connection that are under way; further ones wait at the client."""

LEAST_PING_MS = 5_000
"""Pings of a client that come more often than this end its connection after a few."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the listener. ``max_message_bytes``: -1 lifts the limit. ``max_connections`` also bounds calls."""

    max_message_bytes: int
    max_head_bytes: int
    max_connections: int
    keep_alive_s: float
    shared_port: bool = False
    """Whether several processes listen on the port."""


class Listener:
    """Serves calls on one port, on the running event loop."""

    def __init__(
        self,
        models: Models,
        lifecycle: Lifecycle,
        metrics: Metrics,
        account: ProcessAccount,
        routes: Sequence[Route],
        limits: Limits,
        keys: ApiKeys | None = None,
    ) -> None:
        """``routes``: those that answer all calls but inference. ``account``: received bytes of the whole server.

        ``keys``: what calls need in their metadata, except for health and reflection; None: nothing.
        """
        self._keys = keys
        self.inference = Inference(models, lifecycle, metrics, account)
        self._health = Health(lifecycle, (SERVICE,))
        self._control = Control(routes)
        self._server = grpc.aio.server(options=_options(limits), maximum_concurrent_rpcs=limits.max_connections)
        self._server.add_generic_rpc_handlers((self._methods(), self._health_methods(), Refusals()))
        reflection.enable_server_reflection((SERVICE, HEALTH, reflection.SERVICE_NAME), self._server)

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which is a free one for 0. Raises BadSetting where it cannot be had."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise BadSetting(f"cannot listen on {address} for gRPC; choose another --grpc-port or --host") from error
        await self._server.start()
        return int(bound)

    def refresh(self) -> None:
        """Tell the watchers of the health if it has changed. Called about once a second and at each change."""
        self._health.refresh()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, end the open streams, and wait for running calls, for ``grace_s`` at most."""
        self._health.stop()
        self.inference.stop_reading()
        await self._server.stop(grace_s)

    def _methods(self) -> Any:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        calls = self._control.handlers()
        table = {name: unary(_guarded(call, None if name in OPEN else self._keys)) for name, call in calls.items()}
        table["ModelInfer"] = unary(_guarded(self.inference.unary, self._keys))
        table["ModelStreamInfer"] = stream(_guarded(self.inference.stream, self._keys))
        return grpc.method_handlers_generic_handler(SERVICE, table)

    def _health_methods(self) -> Any:
        unary, watch = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        table = {
            "Check": unary(_guarded(self._health.check)),
            "List": unary(_guarded(self._health.list_all)),
            "Watch": watch(_guarded(self._health.watch)),
        }
        return grpc.method_handlers_generic_handler(HEALTH, table)


class Refusals(grpc.GenericRpcHandler):  # type: ignore[misc]  # the class that the library asks for
    """Answers the methods that other servers have and this one has not."""

    def service(self, details: Any) -> Any:
        """The handler of a refused method, None for any other."""
        service, _, name = details.method.removeprefix("/").rpartition("/")
        sentence = REFUSED.get(name) if service == SERVICE else None
        if sentence is None:
            return None

        async def handle(body: bytes, context: Any) -> None:  # noqa: ARG001 - the handlers' signature
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, sentence)

        return grpc.unary_unary_rpc_method_handler(handle)


def _guarded(call: Callable[[Any, Any], Any], keys: ApiKeys | None = None) -> Callable[[Any, Any], Any]:
    """The handler of a call, whose unexpected errors are hidden. With ``keys`` it needs one of them."""

    async def handle(body: Any, context: Any) -> Any:
        return await guarded(context, call(body, context))

    async def handle_with_key(body: Any, context: Any) -> Any:
        assert keys is not None
        try:
            keys.check(Head(b"POST", b"", metadata_of(context)))
        except Unauthorized as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        return await guarded(context, call(body, context))

    return handle if keys is None else handle_with_key


def _options(limits: Limits) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(limits.shared_port)),
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", limits.max_head_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_head_bytes),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.max_connection_idle_ms", int(limits.keep_alive_s * 1e3)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_MS),
    ]
