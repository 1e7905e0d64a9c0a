"""The composition root: builds all parts of the server, connects them, and runs them until a signal stops it.

Longer than 300 lines: every part is built and connected here and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import uvicorn
import uvloop

from . import VERSION, fatal
from .codecs.media import MAX_EXPANDED_BYTES, Negotiator, codecs
from .errors import BadSetting, DeviceLost, NotReady, SlipwayError
from .http.certificates import Certificates
from .http.hot import HotPath
from .http.keyed_app import KeyedApp
from .http.late_app import LateApp
from .http.limit_metrics import LimitFamilies
from .http.limits import Connections, ProcessAccount
from .http.protocol import HotProtocol
from .lifecycle import Lifecycle, Phase
from .models import Models, ServedModel
from .models.changes import Changes
from .models.description import describe
from .models.follower import Follower
from .models.state import follow, state_of
from .observe import process
from .observe.device_metrics import gpu_families
from .observe.logs import LOG_FORMAT, LogWriter
from .observe.metrics import Metrics
from .protocols import Route
from .protocols.api_keys import OPEN, ApiKeys
from .protocols.compression import Expander
from .protocols.embeddings import Embeddings
from .protocols.guard import admin_guard, platform_guard
from .protocols.metrics import metrics_route, plain
from .protocols.open_inference.repository import EXTENSION, Repository
from .protocols.open_inference.routes import OpenInference
from .protocols.open_inference.statistics import now
from .protocols.sagemaker.batch_transform import BatchTransform
from .protocols.sagemaker.invocations import SageMaker
from .protocols.sagemaker.multi_model import MultiModel
from .protocols.sagemaker.script_calls import ScriptCalls
from .protocols.sagemaker.sessions import Sessions
from .protocols.v1 import V1
from .replicas.channel import encode_error
from .replicas.member import Member
from .replicas.shares import share_of
from .settings import sagemaker
from .settings.options import Settings, aliases, flag
from .settings.reader import environment, unreadable_aliases
from .slowdown import Slowdown
from .system import gpu, memory, orphans
from .system.cores import available_cores
from .system.descriptors import connections_allowed
from .system.listening import listen, often_accepted, share
from .watched_files import WatchedFiles, watch

if TYPE_CHECKING:
    from .grpc.listener import Listener
    from .protocols.capture import Capture

log = logging.getLogger("slipway")

UNLIMITED = 1 << 62
EXPANSION = 4
"""Arrays of a compressed or sparse body may be so many times as large as the largest body."""
STOPPED, FAILED = 0, 1

CLOSE_S = 2.0
"""How long, after the drain, a running batch may delay the end of the process."""


def launch(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. The last line of the log is the first fatal cause."""
    writer = LogWriter(sys.stderr.fileno())
    logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT, handlers=[writer])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    memory.bound_heaps()
    orphans.adopt()
    environ = environment()
    for level, line in sagemaker.explain(environ, aliases(), settings.port, unreadable_aliases(environ)):
        log.log(level, line)
    try:
        with listen(settings.host, settings.port, settings.backlog) as sock:
            code = uvloop.run(Slipway(settings, [writer.families]).run(sock))
    except SlipwayError as error:
        log.critical("%s", fatal.line(error))
        return FAILED
    return ended(code)


def launch_replica(descriptor: int) -> int:
    """Serve as one of several processes. ``descriptor``: the end of a socket pair, whose other end the supervisor has.

    Returns the exit code.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # until the event loop handles them: nothing is served yet
    writer = LogWriter(sys.stderr.fileno())
    logging.basicConfig(format=LOG_FORMAT, handlers=[writer])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    memory.bound_heaps()
    return ended(uvloop.run(serve_replica(socket.socket(fileno=descriptor), writer)))


async def serve_replica(end: socket.socket, writer: LogWriter) -> int:
    """Serve what the supervisor orders, until a signal or the supervisor's end. Returns the exit code."""
    member = Member()
    try:
        order = await member.open(end)
    except NotReady:
        return FAILED
    settings = share_of(Settings(**order.settings))
    logging.getLogger().setLevel(settings.log_level.upper())
    writer.setFormatter(logging.Formatter(LOG_FORMAT.replace("%(name)s", f"%(name)s[{order.number}]")))
    try:
        with share(settings.host, settings.port) as sock:
            return await Slipway(settings, [writer.families], member).run(sock)
    except SlipwayError as error:
        log.critical("%s", fatal.line(error))
        return FAILED


def ended(code: int) -> int:
    """The exit code, unless a script's own threads still run: the interpreter would wait for them."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        leave(code)
    return code


def leave(code: int) -> NoReturn:
    """End the process at once. Threads in native code (a load, a batch) cannot be interrupted, and must not run while
    the interpreter shuts down."""
    logging.shutdown()
    os._exit(code)


def receive_limit(settings: Settings) -> int:
    """Bytes that connections may hold together: at least one body of the largest size with its head."""
    least = int(settings.max_body_mb * 1e6 + 2 * settings.max_head_kb * 1e3)
    limit = int(settings.max_receive_mb * 1e6)
    if limit < least:
        log.info("setting raised setting=max_receive_mb to=%g; one body of --max-body-mb needs it", least / 1e6)
    return max(limit, least)


def grpc_missing(error: ImportError) -> str:
    """What is to be done where the listener for gRPC cannot be imported."""
    if (error.name or "").endswith("inference_pb2"):
        return "--grpc-port needs server/grpc/inference_pb2.py, which is generated: run make .venv/.all"
    return f"--grpc-port needs the package {error.name}: install the requirements of the extra grpc"


def refuse_on_platform(settings: Settings) -> None:
    """Raises BadSetting for API keys and TLS on SageMaker, whose platform sends no key and speaks plain HTTP."""
    wanted = [name for name in ("api_keys_file", "tls_cert") if getattr(settings, name)]
    if wanted and sagemaker.is_platform(environment()):
        raise BadSetting(
            f"{flag(wanted[0])} cannot be used on SageMaker, which authenticates its clients itself; leave it out (a "
            "SAGEMAKER_* variable is set)"
        )


def certificates(settings: Settings) -> Certificates | None:
    """The certificate of the settings. Raises BadSetting if it cannot be used."""
    if settings.tls_cert and settings.grpc_port >= 0:
        raise BadSetting("--grpc-port has no TLS and would bypass --tls-cert; leave one of them out")
    if settings.tls_cert:
        return Certificates(Path(settings.tls_cert), Path(settings.tls_key) if settings.tls_key else None)
    if settings.tls_key:
        raise BadSetting("--tls-key needs --tls-cert, the certificate of the key")
    return None


def later(delay_s: float, call: Callable[[], None]) -> None:
    """Call later on the running event loop."""
    asyncio.get_running_loop().call_later(delay_s, call)


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
        self._models.on_change = self._bind
        self._models.on_device_lost = self._device_lost
        self._follower = Follower(self._models, settings)
        self._changes = Changes(self._models, self._follower, None if member is None else member.change)
        self._following: asyncio.Future[None] | None = None
        self._bound: dict[str, list[bytes]] = {}
        order = None if member is None else member.order
        self._guard = admin_guard(settings) if order is None else admin_guard(settings, order.token, order.first)
        self._fixed: frozenset[bytes] = frozenset()  # URLs in the hot table that belong to no model
        self._capture = self._start_capture()
        refuse_on_platform(settings)
        self._keys = ApiKeys(Path(settings.api_keys_file), self._metrics) if settings.api_keys_file else None
        self._certificates = certificates(settings)
        self._watching: asyncio.Future[None] | None = None
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
        self._routes = self._build_routes()
        self._server = Server(self._config(), self._hot, self._terminate, self._check)
        self._grpc: Listener | None = None
        self._grpc_end: asyncio.Future[None] | None = None
        self._code = STOPPED
        self._lost = ""
        if member is not None:
            self._answer(member)

    async def run(self, sock: socket.socket) -> int:
        """Listen at once, load the models meanwhile, serve, drain; returns the exit code."""
        self._watch_itself(asyncio.get_running_loop())
        first = self._member is None or self._member.first
        if first:
            await self._listen_for_grpc()
        loading = asyncio.ensure_future(self._load())
        if self._member is not None and not await self._joined(self._member, sock, loading):
            return self._code
        if not first:
            await self._listen_for_grpc()
        else:
            host, port = sock.getsockname()[:2]
            scheme = "http" if self._certificates is None else "https"
            log.info("listening on %s://%s:%d", scheme, f"[{host}]" if ":" in host else host, port)
        self._watching = asyncio.ensure_future(watch(self._watched()))
        await self._server.serve(sockets=often_accepted(sock))
        if self._lost:
            leave(FAILED)  # libraries that hold a lost device may not return from their own end
        self._stop_grpc()
        if self._grpc_end is not None:
            await self._grpc_end
        if not loading.done():
            log.info("stopped while the model was loading")
            leave(STOPPED)
        for task in (self._following, self._watching):
            if task is not None:
                task.cancel()
        _, running = await asyncio.wait([asyncio.ensure_future(self._models.close())], timeout=CLOSE_S)
        if self._capture is not None:
            await asyncio.to_thread(self._capture.feed.close)
        self._lifecycle.move(Phase.STOPPED)
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
            from .grpc.listener import Limits, Listener
        except ImportError as error:
            raise BadSetting(grpc_missing(error)) from error
        limits = Limits(
            max_message_bytes=int(settings.max_body_mb * 1e6) or -1,
            max_head_bytes=self._hot.max_head_bytes,
            max_connections=self._hot.connections.limit,
            keep_alive_s=settings.keep_alive_s,
            shared_port=self._member is not None,
        )
        listener = Listener(
            self._models, self._lifecycle, self._metrics, self._hot.account, self._routes, limits, self._keys
        )
        if self._slowdown is not None:
            for codec in listener.inference.codecs:
                self._slowdown.codec(codec)
        port = await listener.start(settings.host, settings.grpc_port)
        self._lifecycle.on_change = listener.refresh
        self._grpc = listener
        if self._member is None or self._member.first:
            log.info("listening on grpc://%s:%d", f"[{settings.host}]" if ":" in settings.host else settings.host, port)

    def _stop_grpc(self) -> None:
        """Begin the end of the listener for gRPC, once."""
        if self._grpc is not None and self._grpc_end is None:
            self._grpc_end = asyncio.ensure_future(self._grpc.stop(self._settings.drain_timeout_s))

    def _watched(self) -> list[WatchedFiles]:
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
        self._report()

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

    def _answer(self, member: Member) -> None:
        """Answer what the other processes of this server ask."""

        async def apply(change: Any) -> Any:
            states, result = await self._changes.apply(change["kind"], change["values"])
            if isinstance(result, SlipwayError):
                return {**states, "error": encode_error(result)}
            return {**states, "result": result}

        async def descriptions(name: Any) -> Any:
            known = [one for one in self._models.known() if name in (None, one.name)]
            return {one.name: describe(self._models, one) for one in known}

        async def statistics(asked: Any) -> Any:
            return [now(one) for one in self._models.all() if [one.name, one.version] in asked]

        async def state(_: Any) -> Any:
            return state_of(self._models, self._follower)

        def hold(reason: str) -> None:
            self._lifecycle.hold(reason)

        member.answers.update(
            apply=apply,
            descriptions=descriptions,
            families=lambda _: plain(self._metrics),
            follow=lambda wanted: follow(self._models, self._follower, wanted),
            state=state,
            statistics=statistics,
        )
        member.on_held = hold
        member.on_lost = lambda: self._terminate(signal.SIGTERM)
        self._lifecycle.held = "the server is starting"

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

    def _start_capture(self) -> Capture | None:
        """Data capture, if it is on; else nothing of it is imported. Raises BadSetting."""
        if not self._settings.capture_to:
            return None
        from .protocols.capture import capture_of

        return capture_of(self._settings, self._models)

    def _build_routes(self) -> list[Route]:
        settings = self._settings
        max_body_bytes = self._hot.max_body_bytes
        expander = Expander(max_body_bytes, self._metrics, self._hot.account)
        formats = codecs(
            min(EXPANSION * max_body_bytes, MAX_EXPANDED_BYTES) if settings.max_body_mb else MAX_EXPANDED_BYTES
        )
        negotiator = Negotiator(
            formats,
            default_content_type=settings.default_content_type or None,
            default_accept=settings.default_accept,
        )
        scripts = ScriptCalls(settings.default_content_type, settings.default_accept)
        extensions = [EXTENSION] if self._guard is not None else []
        sessions = Sessions(settings.session_s, time.time, later=later) if settings.sessions else None
        front = SageMaker(
            self._models, self._lifecycle, negotiator, scripts, self._metrics, expander, settings.stream_rows, sessions
        )
        if settings.multi_model:
            if settings.sessions:
                log.warning("setting has no effect with --multi-model setting=sessions; unset it")
            platform_routes = [
                front.health(),
                *MultiModel(self._models, self._changes, front, platform_guard(settings)).routes(),
            ]
        else:
            platform_routes = [*front.routes(), *BatchTransform(self._models, self._lifecycle, settings).routes()]
        open_inference = OpenInference(
            *(self._models, self._lifecycle, self._metrics, expander, VERSION, extensions),
            None if self._member is None else partial(self._member.gather, "statistics"),
        )
        v1 = V1(self._models, self._lifecycle, self._metrics, expander, lists=not settings.multi_model)
        embeddings = Embeddings(self._models, self._lifecycle, self._metrics, expander, VERSION)
        if self._slowdown is not None:
            for codec in (*formats, open_inference.codec, v1.codec):
                self._slowdown.codec(codec)
            for writer in embeddings.writers:
                self._slowdown.writer(writer)
        inference = [*platform_routes, *open_inference.routes(), *v1.routes(), *embeddings.routes()]
        if self._capture is not None:
            self._metrics.further.append(self._capture.feed.families)
            inference = [self._capture.route(one) if one.infers else one for one in inference]
        repository: list[Route] = []
        if self._guard is not None:
            repository = Repository(self._models, self._follower, self._changes, self._guard).routes()
        routes = [
            *inference,
            metrics_route(self._metrics, None if self._member is None else self._member.scrape),
            *repository,
        ]
        for route in routes:
            if route.hot and "{" not in route.path:
                self._enter(route, {})
        self._fixed = frozenset(self._hot.table)
        return routes

    def _bind(self, name: str, references: Mapping[str, ServedModel]) -> None:
        """Replace the routes of a model, its versions and labels in the hot table, between two requests."""
        for path in self._bound.pop(name, ()):
            self._hot.table.pop(path, None)
        if not references:
            return
        labels = self._models.of(name).labels
        entered = self._bound[name] = []
        for route in self._routes:
            if not route.hot:
                continue
            if "{version}" in route.path:
                entered += [self._enter(route, {"name": name, "version": version}) for version in references]
            elif "{label}" in route.path:
                entered += [self._enter(route, {"name": name, "label": label}) for label in labels]
            elif "{" in route.path:
                entered.append(self._enter(route, {"name": name}))
        entered[:] = [path for path in entered if path not in self._fixed]

    def _enter(self, route: Route, values: dict[str, str]) -> bytes:
        """Enter a route for a model, or of the server. Where both have one URL, that of the server stays."""
        path = route.path.format(**{key: quote(value, safe="") for key, value in values.items()}).encode()
        if path in self._fixed:
            return path
        handler = route.bind(values)
        if self._keys is not None and route.path not in OPEN:
            handler = self._keys.around(handler)
        self._hot.table.setdefault(path, {}).update({method.encode(): handler for method in route.methods})
        return path

    def _config(self) -> uvicorn.Config:
        app: Any = LateApp(
            *(self._routes, VERSION, self._hot.max_body_bytes, self._models, self._changes, self._guard),
            None if self._member is None else partial(self._member.gather, "descriptions"),
        )
        if self._keys is not None:
            app = KeyedApp(app, self._keys)
        tls = self._certificates
        return uvicorn.Config(
            app,
            ssl_context_factory=None if tls is None else lambda _config, _usual: tls.context,
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


class Server(uvicorn.Server):
    """uvicorn's server with own signal handlers (exit code 0 after a drain) and a clock for the heads of responses."""

    def __init__(
        self,
        config: uvicorn.Config,
        hot: HotPath,
        terminate: Callable[[signal.Signals], None],
        check: Callable[[], None],
    ) -> None:
        """``check`` is called about once a second."""
        super().__init__(config)
        self._hot = hot
        self._terminate = terminate
        self._check = check

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Keep the handlers until the process ends: the second signal may come after the last connection closed."""
        loop = asyncio.get_running_loop()
        signals = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it, so that the process stays
            signals.append(signal.SIGHUP)
        for one in signals:
            loop.add_signal_handler(one, self._terminate, one)
        yield

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._hot.heads.tick(time.time())
            self._check()
        return await super().on_tick(counter)
