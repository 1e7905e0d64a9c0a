"""The routes for embeddings: OpenAI's ``/v1/embeddings``, and ``/embed`` and ``/info`` of text-embeddings-inference.

Texts are tokenized before they are submitted, on another thread: a text that is too long is refused, not cut in
silence, and the tokens are counted for the response.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from ..codecs import Writer
from ..codecs.embeddings import (
    MOST_ITEMS,
    EmbeddingCall,
    EmbeddingForm,
    OpenAIEmbeddings,
    TeiEmbeddings,
    read_openai,
    read_tei,
)
from ..content_encoding import is_compressed
from ..errors import BodyTooLarge, ClientGone, MalformedInput, SlipwayError
from ..lifecycle import Lifecycle
from ..models import Models, ServedModel
from ..models.embedder import Embedder
from ..observe.metrics import Metrics
from ..request import Head, Headers, InferRequest, Payload
from . import JSON, NO_HEADERS, Responder, Route
from .compression import Expander
from .exchange import Exchange
from .failure import refuse
from .inference import NO_PAYLOAD, finish, infer_apart, refused_early
from .offload import LARGE_BYTES, PROCESS_BYTES, Call, Place, elsewhere
from .responder import Outlet, Source

TAG = "Embeddings"
OPENAI_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"example": {"model": "embeddings", "input": ["a text", "another"]}}},
}
TEI_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"example": {"inputs": ["a text", "another"]}}},
}
OPENAI_CODES = {"unknown_model": "model_not_found", "overloaded": "rate_limit_exceeded"}
TEI_TYPES = {429: "Overloaded", 503: "Unhealthy", 500: "Backend"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of the two forms: how it reads and writes bodies, its shape of errors, and its error for a long text."""

    read: Callable[[bytes], EmbeddingCall]
    writer: Writer
    error: Callable[[int, dict[str, Any]], dict[str, Any]]
    too_long: type[SlipwayError]


class Embeddings:
    """The three routes. ``writers`` are those of the responses."""

    def __init__(
        self, models: Models, lifecycle: Lifecycle, metrics: Metrics, expander: Expander, version: str
    ) -> None:
        self._models = models
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._expander = expander
        self._version = version
        self.writers: tuple[Writer, ...] = (OpenAIEmbeddings(), TeiEmbeddings())
        self._openai = Dialect(read_openai, self.writers[0], openai_error, MalformedInput)
        self._tei = Dialect(read_tei, self.writers[1], tei_error, BodyTooLarge)

    def routes(self) -> list[Route]:
        post = ("POST",)
        embed, openai = partial(self.embed, self._tei), partial(self.embed, self._openai)
        return [
            Route(
                "/v1/embeddings",
                post,
                lambda _: openai,
                "Vectors of texts (OpenAI)",
                TAG,
                request_body=OPENAI_BODY,
            ),
            Route(
                "/embed",
                post,
                lambda _: embed,
                "Vectors of texts (text-embeddings-inference)",
                TAG,
                request_body=TEI_BODY,
            ),
            Route("/info", ("GET",), lambda _: self.info, "The default model (text-embeddings-inference)", TAG),
        ]

    def embed(self, dialect: Dialect, head: Head, body: bytes, responder: Responder) -> InferRequest | None:
        """Read the body, tokenize its texts, and run the model."""
        encoding = head.get(b"content-encoding")
        if encoding is not None and is_compressed(encoding):
            self._expander.pass_on(
                partial(self.embed, dialect), head, body, encoding, ErrorsAs(responder, dialect.error)
            )
            return None
        answer = responder if isinstance(responder, ErrorsAs) else ErrorsAs(responder, dialect.error)
        request = InferRequest((), 1, partial(self._ended, head, answer))
        if len(body) > LARGE_BYTES:
            place = Place.PROCESS if len(body) > PROCESS_BYTES else Place.THREAD
            elsewhere(
                place, lambda call: call(dialect.read, body), partial(self._read, request, dialect, head, body, answer)
            )
            return request
        try:
            asked = dialect.read(body)
            model = self._find(asked.model, head)
            if model.scheduler.refusing and refused_early(model, head, b"", answer):
                return None
            self._begin(request, model, asked, dialect, head, body, answer)
        except SlipwayError as error:
            self._refuse(error, head, answer)
            return None
        return request

    def info(self, head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG002 - the handler's signature
        answer = ErrorsAs(responder, tei_error)
        try:
            model = self._find("", head)
            embedder = require_embedder(model)
        except SlipwayError as error:
            self._refuse(error, head, answer)
            return
        answer.send(200, JSON, orjson.dumps(self._describe(model, embedder)))

    def _describe(self, model: ServedModel, embedder: Embedder) -> dict[str, Any]:
        return {
            "model_id": model.name,
            "model_sha": None,
            "model_dtype": "float32",
            "model_type": {"embedding": {"pooling": embedder.pooling}},
            "max_input_length": embedder.tokenizer.max_length,
            "max_client_batch_size": min(model.max_rows, MOST_ITEMS),
            "auto_truncate": False,
            "version": self._version,
        }

    def _read(
        self,
        request: InferRequest,
        dialect: Dialect,
        head: Head,
        body: bytes,
        responder: Responder,
        end: EmbeddingCall | BaseException,
    ) -> None:
        """Continue after a large body was read on another thread, or failed to be read. Raises nothing."""
        try:
            if isinstance(end, BaseException):
                raise end
            self._begin(request, self._find(end.model, head), end, dialect, head, body, responder)
        except SlipwayError as error:
            request.error = error
            request.end()
        except Exception as error:  # noqa: BLE001 - logged there
            request.rescue(error)

    def _find(self, name: str, head: Head) -> ServedModel:
        """The model of this name, or the default one. Raises UnknownModel."""
        return self._models.ask(name, head) if name else self._models.ask_default(head)

    def _begin(
        self,
        request: InferRequest,
        model: ServedModel,
        asked: EmbeddingCall,
        dialect: Dialect,
        head: Head,
        body: bytes,
        responder: Responder,
    ) -> None:
        """Tokenize and submit. Raises MalformedInput for what this model cannot give."""
        embedder = require_embedder(model)
        normalize = embedder.normalized if asked.normalize is None else asked.normalize
        if embedder.normalized and not normalize:
            raise MalformedInput("this model gives vectors of length one only; leave normalize out")
        cut = 0
        if asked.dimensions:
            embedder.check_dimensions(asked.dimensions)
            cut = asked.dimensions if asked.dimensions < embedder.width else 0
        scale = normalize and bool(cut or not embedder.normalized)

        def decode(_call: Call) -> Payload:
            rows, lengths = embedder.tokenized(asked.items)
            most = embedder.tokenizer.max_length
            if not asked.truncate and max(lengths) > most:
                index = next(index for index, length in enumerate(lengths) if length > most)
                raise dialect.too_long(f"item {index} has {lengths[index]} tokens, this model takes {most}; shorten it")
            form = EmbeddingForm(embedder.output, asked.base64, cut, scale, embedder.cut(lengths))
            return Payload((rows,), len(rows), notes=form)

        exchange = Exchange(model, head, responder, NO_PAYLOAD, dialect.writer)
        if model.capture is not None and model.capture.wants():
            exchange.captured = body
        infer_apart(request, exchange, Place.THREAD, decode)

    def _ended(self, head: Head, responder: Responder, request: InferRequest) -> None:
        """Send the response; also the error of a request that has not found its model."""
        if request.context is not None:
            finish(request)
        elif not request.abandoned:
            error = request.error or ClientGone("the request has ended without a response")
            self._refuse(error, head, responder)
            request.answered = True

    def _refuse(self, error: SlipwayError, head: Head, responder: Responder) -> None:
        refuse(error, self._lifecycle, self._metrics, head, responder)


class ErrorsAs:
    """A responder that gives errors the shape of another API, and passes everything else on."""

    __slots__ = ("_responder", "_shape")

    def __init__(self, responder: Responder, shape: Callable[[int, dict[str, Any]], dict[str, Any]]) -> None:
        self._responder = responder
        self._shape = shape

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:
        if status >= 400:
            body = orjson.dumps(self._shape(status, orjson.loads(body)))
        self._responder.send(status, content_type, body, headers)

    def begin_stream(self, status: int, content_type: bytes, headers: Headers, source: Source, /) -> Outlet | None:
        return self._responder.begin_stream(status, content_type, headers, source)


def openai_error(status: int, ours: dict[str, Any]) -> dict[str, Any]:
    """One of our error documents in OpenAI's shape."""
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    code = OPENAI_CODES.get(ours["code"], ours["code"])
    error = {"message": ours["error"], "type": kind, "param": None, "code": code, "request_id": ours["request_id"]}
    return {"error": error}


def tei_error(status: int, ours: dict[str, Any]) -> dict[str, Any]:
    """One of our error documents with the type that clients of text-embeddings-inference read."""
    return {**ours, "error_type": TEI_TYPES.get(status, "Backend" if status >= 500 else "Validation")}


def require_embedder(model: ServedModel) -> Embedder:
    """Raises MalformedInput for a model that does not give vectors for texts."""
    if model.embedder is None:
        raise MalformedInput(
            f"model {model.name!r} gives no embeddings: it has to be a pipeline from a tokenizer to vectors"
        )
    return model.embedder
