"""The port: what all connections for gRPC share, and the methods that can be called on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..http.hot import HotPath
from ..http.limits import ProcessAccount
from ..protocols.api_keys import ApiKeys

if TYPE_CHECKING:
    from .call import Call


class Owner(Protocol):
    """What answers a call over some time, and must know when the call ends or the server leaves."""

    def over(self, then: Callable[[], None]) -> None:
        """The call has ended, with its response or without. ``then`` is to be called when no request of it is left."""
        ...

    def leave(self) -> None:
        """The server is draining: come to an end soon."""
        ...


class Conversation(Owner, Protocol):
    """What answers a call of any number of messages. ``room`` says whether it takes another one."""

    @property
    def room(self) -> bool: ...

    def message(self, body: bytes) -> None:
        """The next message."""
        ...

    def ended(self) -> None:
        """The client sends no more messages."""
        ...


@dataclass(frozen=True, slots=True)
class Method:
    """One method: ``serve`` answers a call of one message, or ``converse`` one of any number.

    ``open``: it needs no API key. ``sentence``: why it is refused, for one that this server has not.
    """

    serve: Callable[[Call, bytes], None] | None = None
    converse: Callable[[Call], Conversation] | None = None
    open: bool = False
    sentence: str = ""


@dataclass(slots=True)
class Port:
    """The state of the port. ``hot`` has the limits and accounts, which are those of HTTP.

    ``unsent`` counts the bytes of responses whose clients do not read them. ``calls`` are under way; there may be as
    many as connections.
    """

    hot: HotPath
    table: Mapping[bytes, Method]
    later: Callable[..., object]
    keys: ApiKeys | None = None
    calls: int = 0
    unsent: ProcessAccount = field(default_factory=ProcessAccount)

    def __post_init__(self) -> None:
        self.unsent.limit_bytes = self.hot.account.limit_bytes
