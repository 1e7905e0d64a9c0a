"""What runs on the nodes of Ray: the application that Serve builds, and a replica with its server.

The nodes import this module, so Ray is started with the checkout in PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from .application import DEPLOYMENT
from .forward import Forwarder, NoResponse, unavailable
from .scaling import Load
from .server import Server, Wanted

logger = logging.getLogger("ray.serve")
END_KNOWN_S = 2.0
"""Pause before the 503 of a server that has ended; the replica has ended too by then."""
STARTS = 3
"""Failed starts in a row that end an update."""


class Replica:
    """A Slipway server process, and the way of requests to it.

    The replica ends with its server, and Serve makes another one. A rolling update sends no requests to a replica any
    more, waits for the running ones, and then ends the replica, which drains the server.
    """

    def __init__(self, wanted: dict[str, Any]) -> None:
        """Serve calls it on the thread that lives as long as the replica, with whose end the server ends too."""
        self._load = Load()
        self._stopping = threading.Event()
        self._forwarder: Forwarder | None = None
        # Serve calls __del__ also where this constructor fails.
        self._server: Server | None = None
        self._server = Server(Wanted(**wanted), ray.util.get_node_ip_address(), logger.info)
        threading.Thread(target=self._end_with_server, name="server-end", daemon=True).start()
        logger.info("release %s is served at %s", wanted["release"], self._server.url)

    async def __call__(self, request: Request) -> Response:
        try:
            return await self._forwarding().forward(request)
        except NoResponse as error:
            # A replica that fails fast has the shortest queue, so that Serve would send it ever more requests.
            await asyncio.sleep(END_KNOWN_S)
            return unavailable(error)

    def check_health(self) -> None:
        """Raises RuntimeError where the server's /ping fails."""
        problem = self._started.problem
        if problem is not None:
            raise RuntimeError(f"the server is not healthy: {problem}")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """The load of the server, for the policy of auto scaling."""
        return self._load.report(await self._forwarding().text("/metrics"), time.monotonic())

    async def __del__(self) -> None:
        self._stopping.set()
        if self._forwarder is not None:
            await self._forwarder.close()
        if self._server is not None:
            code, seconds = await asyncio.to_thread(self._server.stop)
            logger.info("the server ended with %s after %.1f s", code, seconds)

    @property
    def _started(self) -> Server:
        assert self._server is not None, "Serve asks only what was made"
        return self._server

    def _forwarding(self) -> Forwarder:
        if self._forwarder is None:
            self._forwarder = Forwarder(self._started.url)
        return self._forwarder

    def _end_with_server(self) -> None:
        code = self._started.wait()
        if not self._stopping.is_set():
            logger.error("the server ended with %s; this replica ends too, and Serve makes another one", code)
            os._exit(1)


def application(arguments: dict[str, Any]) -> serve.Application:
    """Build the application: Serve calls it with the ``args`` of the config."""
    made = serve.deployment(Replica, name=DEPLOYMENT)
    return made.options(max_constructor_retry_count=STARTS).bind(arguments)
