"""The health of the server and of its inference service, as grpc.health.v1 has it."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import DecodeError

from ..lifecycle import Lifecycle
from .call import Call
from .codes import Code
from .descriptions import HEALTH, STATUSES, message_class

SERVICE = "grpc.health.v1.Health"

SERVING, NOT_SERVING, SERVICE_UNKNOWN = (STATUSES.index(name) for name in STATUSES[1:])

REQUEST, RESPONSE, LISTED = (
    message_class(HEALTH, name) for name in ("HealthCheckRequest", "HealthCheckResponse", "HealthListResponse")
)


class Health:
    """Answers Check, Watch and List. ``services``: names beside the empty one, which stands for the whole server."""

    def __init__(self, lifecycle: Lifecycle, services: tuple[str, ...]) -> None:
        self._lifecycle = lifecycle
        self._services = ("", *services)
        self._watches: set[Watch] = set()

    def refresh(self) -> None:
        """Tell the watchers if the server has become ready, or unready."""
        for one in tuple(self._watches):
            one.look()

    def check(self, call: Call, body: bytes) -> None:
        """The status of one service. NOT_FOUND for an unknown one."""
        service = _service(call, body)
        if service is None:
            return
        status = self._status(service)
        if status == SERVICE_UNKNOWN:
            call.fail(Code.NOT_FOUND, "no service of this name is served")
        else:
            call.respond(_response(status))

    def list_all(self, call: Call, body: bytes) -> None:  # noqa: ARG002 - the signature of methods
        """The status of all services."""
        rows = {name: RESPONSE(status=self._status(name)) for name in self._services}
        call.respond(LISTED(statuses=rows).SerializeToString())

    def watch(self, call: Call, body: bytes) -> None:
        """The status of one service now, and at each change until the client leaves or the server stops."""
        service = _service(call, body)
        if service is not None:
            one = Watch(call, lambda: self._status(service), self._watches)
            call.owner = one
            one.look()

    def _status(self, service: str) -> int:
        if service not in self._services:
            return SERVICE_UNKNOWN
        return SERVING if self._lifecycle.ready else NOT_SERVING


class Watch:
    """One call of Watch. It is in ``others``, with all that are open."""

    def __init__(self, call: Call, status: Callable[[], int], others: set[Watch]) -> None:
        self._call = call
        self._status = status
        self._others = others
        self._last = -1
        others.add(self)

    def look(self) -> None:
        """Send the status if it is another one than before."""
        status = self._status()
        if status != self._last:
            self._last = status
            self._call.write(_response(status))

    def leave(self) -> None:
        self.look()
        self._call.fail(Code.UNAVAILABLE, "the server is draining")

    def over(self, then: Callable[[], None]) -> None:
        self._others.discard(self)
        then()


def _service(call: Call, body: bytes) -> str | None:
    """The service that a request names. None if it names none: the call has failed."""
    try:
        return str(REQUEST.FromString(body).service)
    except DecodeError:
        call.fail(Code.INVALID_ARGUMENT, "the message is not a well-formed HealthCheckRequest")
        return None


def _response(status: int) -> bytes:
    serialized: bytes = RESPONSE(status=status).SerializeToString()
    return serialized
