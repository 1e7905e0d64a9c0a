"""One server process: its parts, its phases from listening to the drain, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from .. import VERSION, fatal
from ..errors import BadSetting, DeviceLost, SlipwayError
from ..http.hot import HotPath
from ..http.keyed_app import KeyedApp
from ..http.late_app import LateApp
from ..http.limit_metrics import LimitFamilies
from ..http.limits import Connections, ProcessAccount
from ..http.protocol import HotProtocol
from ..lifecycle import Lifecycle, Phase
from ..models import Models
from ..models.changes import Changes
from ..models.follower import Follower
from ..observe import process
from ..observe.device_metrics import gpu_families
from ..observe.metrics import Metrics
from ..protocols.api_keys import ApiKeys
from ..protocols.guard import admin_guard
from ..replicas.member import Member
from ..settings.options import Settings
from ..slowdown import Slowdown
from ..system import gpu
from ..system.cores import available_cores
from ..system.descriptors import connections_allowed
from ..system.listening import often_accepted
from ..watched_files import WatchedFiles, watch
from .answers import answer
from .ending import FAILED, STOPPED, leave
from .parts import capture, certificates, grpc_missing, receive_limit, refuse_on_platform, tracing
from .routing import Parts, Routing
from .server import Server
from .timers import later

if TYPE_CHECKING:
    from ..grpc.listener import Listener

log = logging.getLogger("slipway")

UNLIMITED = 1 << 62

CLOSE_S = 2.0
"""How long, after the drain, a running batch may delay the end of the process."""

REPORT_S = 1.0
"""How often one of several processes reports to the supervisor."""


class Slipway:
    """One server process."""

    def __init__(
        self,
        settings: Settings,
        families: Iterable[Callable[[], Iterator[Any]]] = (),
        member: Member | None = None,
    ) -> None:
        """``families``: callables that return further metric families at each scrape. ``member``: the connection to
        the other processes of the same server; None: there is no other."""
        self._settings = settings
        self._member = member
        self._lifecycle = Lifecycle()
        self._metrics = Metrics(lambda: self._lifecycle.ready, VERSION)
        self._metrics.further += families
        self._slowdown = Slowdown(later) if settings.slowdowns else None
        self._models = Models(settings, self._metrics, slowdown=self._slowdown)
        self._models.on_device_lost = self._device_lost
        self._follower = Follower(self._models, settings)
        self._changes = Changes(self._models, self._follower, None if member is None else member.change)
        self._following: asyncio.Future[None] | None = None
        self._tracing = tracing(settings)
        if self._tracing is not None:
            self._models.trace = self._tracing
            self._metrics.further.append(self._tracing.families)
        order = None if member is None else member.order
        self._guard = admin_guard(settings) if order is None else admin_guard(settings, order.token, order.first)
        self._capture = self._models.capture = capture(settings)
        if self._capture is not None:
            self._metrics.further.append(self._capture.feed.families)
        refuse_on_platform(settings)
        self._keys = ApiKeys(Path(settings.api_keys_file), self._metrics) if settings.api_keys_file else None
        self._certificates = certificates(settings)
        self._watched = self._files()  # those that were just read: a load may take long
        self._watching: asyncio.Future[None] | None = None
        self._reporting: asyncio.Future[None] | None = None
        self._hot = HotPath(
            self._lifecycle,
            max_body_bytes=int(settings.max_body_mb * 1e6) or UNLIMITED,
            max_head_bytes=int(settings.max_head_kb * 1e3),
            account=ProcessAccount(receive_limit(settings)),
            connections=Connections(connections_allowed(settings.max_connections)),
            refused=self._metrics.refused,
            read_timeout_s=settings.read_timeout_s,
            keep_alive_s=settings.keep_alive_s,
            access_log=settings.access_log,
        )
        self._routing = Routing(
            Parts(
                *(settings, self._models, self._follower, self._changes, self._lifecycle, self._metrics, self._hot),
                *(self._guard, member, self._slowdown, self._keys),
            )
        )
        self._models.on_change = self._routing.bind
        self._server = Server(self._config(), self._hot, self._terminate, self._check)
        self._grpc: Listener | None = None
        self._grpc_end: asyncio.Future[None] | None = None
        self._code = STOPPED
        self._lost = ""
        if member is not None:
            answer(member, self._models, self._follower, self._changes, self._lifecycle, self._metrics)
            member.on_lost = lambda: self._terminate(signal.SIGTERM)

    async def run(self, sock: socket.socket) -> int:
        """Listen at once, load the models meanwhile, serve, drain; returns the exit code."""
        self._watch_itself(asyncio.get_running_loop())
        first = self._member is None or self._member.first
        if self._member is not None:
            self._reporting = asyncio.ensure_future(self._report_often())
        if first:
            await self._listen_for_grpc()
        loading = asyncio.ensure_future(self._load())
        if self._tracing is not None:
            self._tracing.start()
        if self._member is not None and not await self._joined(self._member, sock, loading):
            return self._code
        if not first:
            await self._listen_for_grpc()
            sock.listen(self._settings.backlog)
        else:
            host, port = sock.getsockname()[:2]
            scheme = "http" if self._certificates is None else "https"
            log.info("listening on %s://%s:%d", scheme, f"[{host}]" if ":" in host else host, port)
        if self._member is not None:
            self._member.listening.set()
        self._watching = asyncio.ensure_future(watch(self._watched))
        await self._server.serve(sockets=often_accepted(sock))
        if self._lost:
            leave(FAILED)  # libraries that hold a lost device may not return from their own end
        self._stop_grpc()
        if self._grpc_end is not None:
            await self._grpc_end
        if not loading.done():
            log.info("stopped while the model was loading")
            leave(STOPPED)
        for task in (self._following, self._watching, self._reporting):
            if task is not None:
                task.cancel()
        _, running = await asyncio.wait([asyncio.ensure_future(self._models.close())], timeout=CLOSE_S)
        if self._capture is not None:
            await asyncio.to_thread(self._capture.feed.close)
        self._lifecycle.move(Phase.STOPPED)
        if self._tracing is not None:
            await asyncio.wait([asyncio.ensure_future(asyncio.to_thread(self._tracing.close))], timeout=CLOSE_S)
        if self._code == STOPPED:
            log.info("stopped")
        if running or self._models.loads.hanging:
            leave(self._code)
        return self._code

    async def _listen_for_grpc(self) -> None:
        """Listen on the port for gRPC, if there is to be one. Raises BadSetting where that is impossible."""
        settings = self._settings
        if settings.grpc_port < 0:
            return
        try:
            from ..grpc.listener import Listener
        except ImportError as error:
            raise BadSetting(grpc_missing(error)) from error
        context = None if self._certificates is None else self._certificates.context("h2")
        listener = Listener(
            *(self._models, self._lifecycle, self._metrics, self._hot, self._routing.routes, self._keys, context)
        )
        if self._slowdown is not None:
            for codec in listener.inference.codecs:
                self._slowdown.codec(codec)
        port = await listener.start(
            settings.host, settings.grpc_port, settings.backlog, shared=self._member is not None
        )
        self._lifecycle.on_change = listener.refresh
        self._grpc = listener
        if self._member is None or self._member.first:
            scheme = "grpc" if context is None else "grpcs"
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            log.info("listening on %s://%s:%d", scheme, host, port)

    def _stop_grpc(self) -> None:
        """Begin the end of the listener for gRPC, once."""
        if self._grpc is not None and self._grpc_end is None:
            self._grpc_end = asyncio.ensure_future(self._grpc.stop(self._settings.drain_timeout_s))

    def _files(self) -> list[WatchedFiles]:
        """The files that are read again when they change."""
        watched = []
        if self._keys is not None:
            watched.append(WatchedFiles("API keys", [Path(self._settings.api_keys_file)], self._keys.read))
        if self._certificates is not None:
            watched.append(WatchedFiles("certificate", self._certificates.paths, self._certificates.read))
        return watched

    def _check(self) -> None:
        """Turn the server unready while a model makes no progress; called about once a second."""
        self._lifecycle.stall(self._models.stalled())

    async def _report_often(self) -> None:
        """Show the supervisor that the event loop turns, from the start on."""
        while True:
            self._report()
            await asyncio.sleep(REPORT_S)

    def _report(self) -> None:
        """Tell the supervisor, if there is one, whether this process is ready."""
        if self._member is not None:
            reason = self._lifecycle.own_reason
            self._member.report(loaded=self._lifecycle.phase is Phase.READY, ready=not reason, reason=reason)

    async def _joined(self, member: Member, sock: socket.socket, loading: asyncio.Future[None]) -> bool:
        """Wait until this process may listen. Returns False if it could not load.

        The first process of a server listens at once. Others listen when they are as far as those that serve: their
        part of the connections would wait.
        """
        if member.first:
            sock.listen(self._settings.backlog)
            return True
        await loading
        if self._code == FAILED:
            return False
        await member.joined.wait()
        return True

    def _device_lost(self, reason: str) -> None:
        """A GPU cannot be used by this process any more: answer all requests, and end with a failure."""
        if self._lost:
            return
        self._lost, self._code = reason, FAILED
        log.critical("%s", fatal.line(DeviceLost(reason)))
        self._lifecycle.move(Phase.FAILED, reason)
        self._models.fail(DeviceLost(reason))
        self._server.should_exit = True

    def _watch_itself(self, loop: asyncio.AbstractEventLoop) -> None:
        limits = LimitFamilies(self._hot.account, self._hot.connections)
        self._metrics.further += process.watched(loop, available_cores(), self._slowdown is not None)
        self._metrics.further += [limits.families, self._models.loads.families]
        with contextlib.suppress(OSError):  # no driver, no GPU
            nvml = gpu.Nvml()
            self._metrics.further.append(lambda: gpu_families(lambda: nvml.read().devices))

    async def _load(self) -> None:
        try:
            if not self._settings.multi_model:
                await self._follower.load_all()
        except SlipwayError as error:
            if self._lifecycle.phase is Phase.DRAINING:
                log.info("stopped while the model was loading")
                return
            log.critical("%s", fatal.line(error))
        except (Exception, SystemExit) as error:  # a script runs at load, and may call sys.exit
            log.exception("loading failed path=%s", self._settings.model)
            log.critical("%s", fatal.line(error))
        else:
            self._lifecycle.move(Phase.READY)
            self._report()
            if self._settings.poll_s and not self._settings.multi_model:
                self._following = asyncio.ensure_future(self._follower.follow())
            return
        self._code = FAILED
        self._lifecycle.move(Phase.FAILED, "the model could not be loaded")
        self._server.should_exit = True

    def _config(self) -> uvicorn.Config:
        app: Any = LateApp(
            *(self._routing.routes, VERSION, self._hot.max_body_bytes, self._models, self._changes, self._guard),
            None if self._member is None else partial(self._member.gather, "descriptions"),
        )
        if self._keys is not None:
            app = KeyedApp(app, self._keys)
        tls = self._certificates
        return uvicorn.Config(
            app,
            ssl_context_factory=None if tls is None else lambda _config, _usual: tls.context("http/1.1"),
            http=partial(HotProtocol, self._hot),  # type: ignore[arg-type]  # called as the class would be
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=self._settings.backlog,
            timeout_keep_alive=int(self._settings.keep_alive_s),
            timeout_graceful_shutdown=int(self._settings.drain_timeout_s),
        )

    def _terminate(self, received: signal.Signals) -> None:
        """First signal: drain, SIGTERM with the grace. Second signal: stop without waiting for requests."""
        if self._lifecycle.phase is Phase.DRAINING:
            log.warning("second signal, stopping without waiting for running requests signal=%s", received.name)
            leave(FAILED)
        self._lifecycle.move(Phase.DRAINING)
        grace_s = self._settings.drain_grace_s if received is signal.SIGTERM else 0.0
        log.info("draining signal=%s grace_s=%g", received.name, grace_s)
        asyncio.get_running_loop().call_later(grace_s, self._stop)

    def _stop(self) -> None:
        """End the server. The callers of loads get their answer now: their connections would hold up the end."""
        self._models.loads.stop()
        self._stop_grpc()
        self._server.should_exit = True
