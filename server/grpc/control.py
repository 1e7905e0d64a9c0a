"""The calls beside inference: each asks the HTTP route of the same meaning, and makes a message of its JSON.

So both protocols say the same, and a call obeys the guard of its route.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from ..protocols import Route
from ..protocols.offload import LARGE_BYTES, on_thread
from ..protocols.open_inference.repository import ROOT as REPOSITORY
from ..protocols.open_inference.routes import ROOT, STATISTICS, VERSIONED
from ..protocols.responder import NO_HEADERS, Source
from ..request import Headers
from . import inference_pb2 as messages
from .call import OK, Call
from .codes import Code

UNSERVED = "this server does not let clients list or change its models; start it with --admin"

REFUSED = {
    **dict.fromkeys(
        (f"{kind}SharedMemory{verb}" for kind in ("System", "Cuda") for verb in ("Status", "Register", "Unregister")),
        "shared memory is not supported; send the values in the request",
    ),
    "TraceSetting": "trace settings are not supported; the metrics have the times of each stage",
    "LogSettings": "log settings are not supported; start the server with --log-level",
}
"""Methods of Triton that are refused, and the sentence that says so."""


@dataclass(frozen=True, slots=True)
class Question:
    """The request to a route: its path before names are filled in, the names, and the body as an object."""

    path: str
    names: Mapping[str, str]
    body: Any = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply of a route: a status of HTTP, and a document in JSON."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Method:
    """One call: the message that it takes, the question that it asks, and the message that it makes of the reply.

    ``statuses`` are those that the reply may have; any other is the call's error.
    """

    request: Any
    ask: Callable[[Any], Question]
    answer: Callable[[Any, Reply], Any]
    statuses: tuple[int, ...] = (OK,)


class Control:
    """Answers all calls but those of inference."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = {route.path: route for route in routes}

    def handlers(self) -> dict[str, Callable[[Call, bytes], None]]:
        """What answers the calls, by the names of their methods."""
        return {name: partial(self._handle, method) for name, method in METHODS.items()}

    def _handle(self, method: Method, call: Call, body: bytes) -> None:
        try:
            request = method.request.FromString(body)
        except DecodeError:
            name = method.request.DESCRIPTOR.name
            call.fail(Code.INVALID_ARGUMENT, f"the message is not a well-formed {name}")
            return
        call.owner = answer = Answer(call, method, request)
        work, ask = partial(_asked, method, request), partial(self._ask, call, answer)
        if len(body) > LARGE_BYTES:
            on_thread(work, ask)
            return
        try:
            found: tuple[Question, bytes] | BaseException = work()
        except Exception as error:  # noqa: BLE001 - logged there
            found = error
        ask(found)

    def _ask(self, call: Call, answer: Answer, found: tuple[Question, bytes] | BaseException) -> None:
        """Put the question to its route; ``found`` is what came of making it. A client that has left asks nothing."""
        try:
            if isinstance(found, BaseException):
                raise found
            question, text = found
            route = self._routes.get(question.path)
            if route is None:
                call.fail(Code.UNIMPLEMENTED, UNSERVED)
            elif not call.ended:
                route.bind(dict(question.names))(call.head(), text, answer)
                return
        except Exception as error:  # noqa: BLE001 - logged there
            call.failed(error)
        answer.finish()


class Answer:
    """The responder of a question: makes the message of the reply. A call whose client has left counts until then."""

    __slots__ = ("_call", "_finished", "_method", "_request", "_then")

    def __init__(self, call: Call, method: Method, request: Any) -> None:
        self._call = call
        self._method = method
        self._request = request
        self._finished = False
        self._then: Callable[[], None] | None = None

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:
        if status not in self._method.statuses:
            self._call.send(status, content_type, body, headers)
            self.finish()
            return
        work = partial(_serialized, self._method, self._request, Reply(status, body))
        if len(body) > LARGE_BYTES:
            on_thread(work, self._made)
        else:
            self._call.respond(work())
            self.finish()

    def finish(self) -> None:
        """Nothing is under way any more."""
        self._finished = True
        then, self._then = self._then, None
        if then is not None:
            then()

    def over(self, then: Callable[[], None]) -> None:
        """The call has ended; ``then`` is called when the route has."""
        if self._finished:
            then()
        else:
            self._then = then

    def leave(self) -> None:
        """The server is draining: the question goes on."""

    def begin_stream(self, status: int, content_type: bytes, headers: Headers, source: Source, /) -> None:  # noqa: ARG002
        """Responses are sent whole."""
        return

    def _made(self, end: bytes | BaseException) -> None:
        if isinstance(end, bytes):
            self._call.respond(end)
        else:
            self._call.failed(end)
        self.finish()


def _asked(method: Method, request: Any) -> tuple[Question, bytes]:
    """The question of a request, and its body as JSON."""
    question = method.ask(request)
    return question, b"" if question.body is None else orjson.dumps(question.body)


def _serialized(method: Method, request: Any, reply: Reply) -> bytes:
    serialized: bytes = method.answer(request, reply).SerializeToString()
    return serialized


def _model(tail: str) -> Callable[[Any], Question]:
    """Questions about a model, or one version of it."""

    def ask(request: Any) -> Question:
        if request.version:
            return Question(VERSIONED + tail, {"name": request.name, "version": request.version})
        return Question(ROOT + tail, {"name": request.name})

    return ask


def _server(path: str) -> Callable[[Any], Question]:
    return lambda _: Question(path, {})


def _statistics(request: Any) -> Question:
    return _model("/stats")(request) if request.name else Question(STATISTICS, {})


def _index(request: Any) -> Question:
    return Question("/v2/repository/index", {}, {"ready": request.ready})


def _change(tail: str) -> Callable[[Any], Question]:
    """Questions that load or unload a model."""

    def ask(request: Any) -> Question:
        parameters = {key: _parameter(one) for key, one in request.parameters.items()}
        return Question(REPOSITORY + tail, {"name": _changed(request)}, {"parameters": parameters})

    return ask


def _changed(request: Any) -> str:
    """The model that is loaded or unloaded: KServe's clients name it in the field that Triton has for a repository."""
    return str(request.model_name or request.repository_name)


def _parameter(one: Any) -> Any:
    choice = one.WhichOneof("parameter_choice")
    value = None if choice is None else getattr(one, choice)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _parsed(kind: Any, wrap: Callable[[Any], Any] = lambda document: document) -> Callable[[Any, Reply], Any]:
    """Messages of this kind from JSON; what a message has no field for is left out."""

    def answer(_: Any, reply: Reply) -> Any:
        return json_format.ParseDict(wrap(orjson.loads(reply.body)), kind(), ignore_unknown_fields=True)

    return answer


METHODS: dict[str, Method] = {
    "ServerLive": Method(
        messages.ServerLiveRequest,
        _server("/v2/health/live"),
        lambda _, reply: messages.ServerLiveResponse(live=reply.status == OK),
        (OK, 503),
    ),
    "ServerReady": Method(
        messages.ServerReadyRequest,
        _server("/v2/health/ready"),
        lambda _, reply: messages.ServerReadyResponse(ready=reply.status == OK),
        (OK, 503),
    ),
    "ModelReady": Method(
        messages.ModelReadyRequest,
        _model("/ready"),
        lambda _, reply: messages.ModelReadyResponse(ready=reply.status == OK),
        (OK, 404, 503),  # an unknown model is not ready
    ),
    "ServerMetadata": Method(messages.ServerMetadataRequest, _server("/v2"), _parsed(messages.ServerMetadataResponse)),
    "ModelMetadata": Method(messages.ModelMetadataRequest, _model(""), _parsed(messages.ModelMetadataResponse)),
    "ModelConfig": Method(
        messages.ModelConfigRequest,
        _model("/config"),
        _parsed(messages.ModelConfigResponse, lambda document: {"config": document}),
    ),
    "ModelStatistics": Method(messages.ModelStatisticsRequest, _statistics, _parsed(messages.ModelStatisticsResponse)),
    "RepositoryIndex": Method(
        messages.RepositoryIndexRequest,
        _index,
        _parsed(messages.RepositoryIndexResponse, lambda rows: {"models": rows}),
    ),
    "RepositoryModelLoad": Method(
        messages.RepositoryModelLoadRequest,
        _change("/load"),
        lambda request, _: messages.RepositoryModelLoadResponse(model_name=_changed(request), isLoaded=True),
    ),
    "RepositoryModelUnload": Method(
        messages.RepositoryModelUnloadRequest,
        _change("/unload"),
        lambda request, _: messages.RepositoryModelUnloadResponse(model_name=_changed(request), isUnloaded=True),
    ),
}
