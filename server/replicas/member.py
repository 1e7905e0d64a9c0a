"""A member: one replica as it sees itself. It answers the supervisor, and asks it for what concerns all replicas."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ..errors import NotReady
from .channel import Channel, decode_error

log = logging.getLogger("slipway.replicas")

Answer = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Order:
    """The first message to a replica: its number, its settings with the true port, and the token of the admin routes.
    ``first``: it listens while it loads; the others listen when they have joined."""

    number: int
    settings: dict[str, Any]
    token: str
    first: bool


class Member:
    """The replica's end of the channel. ``answers`` are the calls that it answers, by name. ``held``: why the server as
    a whole is not ready, as the supervisor said last; empty where it is. ``joined``: it may listen. ``listening``: it
    does."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.held = "the server is starting"
        self.on_held: Callable[[str], None] = lambda _reason: None
        self.on_lost: Callable[[], None] = lambda: None
        self.joined = asyncio.Event()
        self.listening = asyncio.Event()
        self.order: Order | None = None
        self._ordered = asyncio.Event()
        self._channel = Channel(self._handle)
        self._serving: asyncio.Future[None] | None = None

    @property
    def first(self) -> bool:
        """Whether this is the first process of its server, which listens while it loads."""
        return self.order is not None and self.order.first

    async def open(self, end: socket.socket) -> Order:
        """Take over this end of the channel. Returns the supervisor's order; raises NotReady if there is none."""
        await self._channel.open(end)
        self._serving = asyncio.ensure_future(self._serve())
        ordered = asyncio.ensure_future(self._ordered.wait())
        await asyncio.wait((ordered, self._serving), return_when=asyncio.FIRST_COMPLETED)
        ordered.cancel()
        if self.order is None:
            raise NotReady("the supervisor has ended")
        return self.order

    def report(self, loaded: bool, ready: bool, reason: str) -> None:
        """Tell the supervisor the state of this replica, which also shows that its event loop turns."""
        self._channel.tell("status", {"loaded": loaded, "ready": ready, "reason": reason})

    async def change(self, kind: str, values: dict[str, Any]) -> Any:
        """Make a change in all replicas. Returns its result, or raises its error."""
        done = await self._channel.call("change", {"kind": kind, "values": values})
        if "error" in done:
            raise decode_error(done["error"])
        return done["result"]

    async def gather(self, name: str, argument: Any) -> list[Any]:
        """The answers of the other replicas that answer in time."""
        return list(await self._channel.call("gather", {"name": name, "argument": argument}))

    async def scrape(self) -> list[dict[str, Any]]:
        """The merged metric families of all replicas."""
        return list(await self._channel.call("scrape"))

    async def _serve(self) -> None:
        await self._channel.serve()
        log.error("the supervisor has ended; this process stops")
        self.on_lost()

    async def _handle(self, name: str, argument: Any) -> Any:
        if name == "order":
            self.order = Order(**argument)
            self._ordered.set()
        elif name == "held":
            self.held = argument
            self.on_held(argument)
        elif name == "join":
            self.joined.set()
            await self.listening.wait()
        else:
            return await self.answers[name](argument)
        return None
