"""The served model: one version of a model that is loaded and answers requests, and how it is closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..artifact import Artifact
from ..cache import ResponseCache
from ..observe.metrics import ModelMetrics
from ..request import Head, Headers, InferRequest
from ..scheduling.intake import Intake
from ..scheduling.padding import Padding
from ..system.memory import trim
from ..tensors import ModelSpec
from .embedder import Embedder

if TYPE_CHECKING:
    from ..observe.tracing import Tracing

log = logging.getLogger("slipway.models")

DRAIN_POLL_S = 0.002
"""Seconds between two looks at a queue that is being drained."""


class Capture(Protocol):
    """Data capture, as ``protocols.capture`` has it."""

    def wants(self) -> bool: ...

    def take(
        self, model: ServedModel, asked: Headers, body: bytes, content_type: bytes, answer: bytes, told: Headers
    ) -> None: ...

    def around(self, model: ServedModel, head: Head, body: bytes, responder: Any) -> Any: ...


class Closable(Protocol):
    """Memory that a model holds: one backend session, or the sessions of several steps."""

    def close(self) -> None: ...


@dataclass(slots=True)
class ServedModel:
    """One version of a model, ready to answer.

    ``independent``: rows may share a run and a request may be cut; without it each request runs whole and alone, for
    the reason in ``batching_reason``.
    ``cache`` belongs to this version alone, so that a new version begins with an empty one.
    ``choose``: set while a part of the requests for the model's name goes to another version.
    ``embedder``: what the routes for embeddings need, of a pipeline that gives vectors for texts.
    ``begun``: requests that were found for this version and are not submitted yet, since their bodies are read on
    another thread, and streams of rows that have parts to submit. A drain waits for them.
    ``max_rows``: most rows of one request.
    ``scripted``: a user's script answers, which takes and gives whole bodies instead of tensors.
    ``capture``: takes requests and responses, where data is captured.
    ``trace``: records every request that has its response, where requests are traced.
    ``watch``: called with every admitted request while this version is compared with another one.
    """

    name: str
    version: str
    spec: ModelSpec
    artifact: Artifact
    session: Closable
    scheduler: Intake
    metrics: ModelMetrics
    max_batch_size: int
    fixed_shapes: bool
    independent: bool
    padding: Padding | None
    cache: ResponseCache | None
    deadline_ns: int
    max_rows: int = 1_000_000
    instances: int = 1
    choose: Callable[[Head], ServedModel] | None = None
    scripted: bool = False
    watch: Callable[[InferRequest], None] | None = None
    batching_reason: str = ""
    embedder: Embedder | None = None
    trace: Tracing | None = None
    capture: Capture | None = None
    begun: int = 0

    def submit(self, request: InferRequest) -> None:
        """Hand a request to the scheduler. Raises Overloaded or NotReady."""
        if not self.independent:
            request.rows = 1
        shape: Hashable = None
        if self.padding is not None:
            request.length = self.padding.length(request.arrays)
            shape = self.padding.shape(request.arrays)
        elif not self.fixed_shapes:
            shape = tuple(array.shape[1:] for array in request.arrays)
        self.scheduler.submit(request, shape)


async def close(model: ServedModel, drain_s: float) -> None:
    """Close a model that gets no new requests.

    Admitted requests are answered first, for ``drain_s`` at most, and as long again is given to the runs.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + drain_s
    while (model.begun or model.scheduler.waiting_rows) and loop.time() < give_up:  # noqa: ASYNC110 - an event would cost each request
        await asyncio.sleep(DRAIN_POLL_S)
    ended = await loop.run_in_executor(None, model.scheduler.stop, drain_s)
    model.scheduler.abandon()
    if ended:
        await loop.run_in_executor(None, _free, model)
    else:
        log.error("a run does not end, so the memory of its model stays in use model=%s", model.name)


def close_unused(model: ServedModel) -> None:
    """Close a model that was never published. Blocks: not for the event loop."""
    model.scheduler.stop(0.0)
    _free(model)


def _free(model: ServedModel) -> None:
    model.session.close()
    if model.cache is not None:
        model.cache.clear()
    if model.artifact.temporary is not None:
        model.artifact.temporary.remove()
    trim()
