"""The listener: the sockets, the table of methods, and the end of all connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Sequence

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from ..errors import BadSetting
from ..http.hot import HotPath
from ..lifecycle import Lifecycle
from ..models import Models
from ..observe.metrics import Metrics
from ..protocols import Route
from ..protocols.api_keys import ApiKeys
from ..system.listening import listen, often_accepted, share
from .control import REFUSED, Control
from .descriptions import Files
from .health import SERVICE as HEALTH
from .health import Health
from .inference import Inference
from .inference_pb2 import DESCRIPTOR
from .port import Method, Port
from .protocol import GrpcProtocol
from .reflection import SERVICE as REFLECTION
from .reflection import Reflection

log = logging.getLogger("slipway.grpc")

SERVICE = "inference.GRPCInferenceService"

OPEN = frozenset(("ServerLive", "ServerReady"))
"""Calls that need no API key, beside health and reflection."""


class Listener:
    """Serves calls on one port, on the running event loop."""

    def __init__(
        self,
        models: Models,
        lifecycle: Lifecycle,
        metrics: Metrics,
        hot: HotPath,
        routes: Sequence[Route],
        keys: ApiKeys | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """``hot``: the limits and accounts of the whole server. ``routes``: those that answer all calls but inference.

        ``keys``: what calls need in their metadata, except for health and reflection; None: nothing. ``context``: of
        TLS; None: there is none.
        """
        self.inference = Inference(models, lifecycle, metrics, hot.account)
        self._health = Health(lifecycle, (SERVICE,))
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._port = Port(hot, self._table(Control(routes)), self._loop.call_later, keys)
        self._servers: list[asyncio.Server] = []
        self._open: set[GrpcProtocol] = set()
        self._stopping = False
        self._empty = asyncio.Event()

    async def start(self, host: str, port: int, backlog: int, shared: bool = False) -> int:
        """Listen; returns the port, which is a free one for 0. Raises BadSetting where it cannot be had.

        ``shared``: several processes listen on the port.
        """
        try:
            with contextlib.ExitStack() as opened:
                sock = opened.enter_context(share(host, port) if shared else listen(host, port, backlog))
                sockets = often_accepted(sock.dup())
        except BadSetting as error:
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise BadSetting(f"cannot listen on {where} for gRPC; choose another --grpc-port or --host") from error
        bound = int(sockets[0].getsockname()[1])
        for one in sockets:
            self._servers.append(await self._serve(one, backlog))
        return bound

    def refresh(self) -> None:
        """Tell the watchers of the health if it has changed. Called at each change."""
        self._health.refresh()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, end the open streams, and wait for running calls, for ``grace_s`` at most."""
        self._stopping = True
        for server in self._servers:
            server.close()
        for one in tuple(self._open):
            one.leave()
        if self._open:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), grace_s)
        for one in tuple(self._open):
            one.abort()

    async def _serve(self, sock: socket.socket, backlog: int) -> asyncio.Server:
        def accepted() -> GrpcProtocol:
            return GrpcProtocol(self._port, self._loop, self._came, self._gone)

        tls = self._context
        patience_s = None if tls is None else self._port.hot.read_timeout_s
        return await self._loop.create_server(
            accepted, sock=sock, backlog=backlog, ssl=tls, ssl_handshake_timeout=patience_s
        )

    def _came(self, one: GrpcProtocol) -> None:
        self._open.add(one)
        if self._stopping:
            one.leave()

    def _gone(self, one: GrpcProtocol) -> None:
        self._open.discard(one)
        if not self._open:
            self._empty.set()

    def _table(self, control: Control) -> dict[bytes, Method]:
        """The methods by their paths."""
        methods = {
            f"{SERVICE}/{name}": Method(serve=call, open=name in OPEN) for name, call in control.handlers().items()
        }
        methods |= {f"{SERVICE}/{name}": Method(sentence=sentence) for name, sentence in REFUSED.items()}
        methods[f"{SERVICE}/ModelInfer"] = Method(serve=self.inference.unary)
        methods[f"{SERVICE}/ModelStreamInfer"] = Method(converse=self.inference.stream)
        health = {"Check": self._health.check, "List": self._health.list_all, "Watch": self._health.watch}
        methods |= {f"{HEALTH}/{name}": Method(serve=call, open=True) for name, call in health.items()}
        reflection = Reflection(
            (SERVICE, HEALTH, REFLECTION), Files(FileDescriptorProto.FromString(DESCRIPTOR.serialized_pb))
        )
        methods[f"{REFLECTION}/ServerReflectionInfo"] = Method(converse=reflection.converse, open=True)
        return {b"/" + path.encode(): method for path, method in methods.items()}
