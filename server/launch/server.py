"""uvicorn's server with the signals and the clock of this one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from ..http.hot import HotPath


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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on ``sockets``, as the parent does; a handshake of TLS has as long as the head of a request."""
        config, loop = self.config, asyncio.get_running_loop()
        patience_s = None if config.ssl is None else self._hot.read_timeout_s

        def accepted() -> asyncio.Protocol:
            make: Any = config.http_protocol_class
            protocol: asyncio.Protocol = make(config=config, server_state=self.server_state, app_state={})
            return protocol

        self.servers = [
            await loop.create_server(
                accepted, sock=sock, backlog=config.backlog, ssl=config.ssl, ssl_handshake_timeout=patience_s
            )
            for sock in sockets or ()
        ]
        self.started = True

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
