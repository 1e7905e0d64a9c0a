"""The routes of the server, and the table of those that the hot path answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from .. import VERSION
from ..codecs import Codec
from ..codecs.media import MAX_EXPANDED_BYTES, Negotiator, codecs
from ..http.hot import HotPath
from ..lifecycle import Lifecycle
from ..models import Models, ServedModel
from ..models.changes import Changes
from ..models.follower import Follower
from ..observe.metrics import Metrics
from ..protocols import Route
from ..protocols.api_keys import OPEN, ApiKeys
from ..protocols.compression import Expander
from ..protocols.dashboard import Dashboard
from ..protocols.embeddings import Embeddings
from ..protocols.guard import Guard, platform_guard
from ..protocols.metrics import metrics_route
from ..protocols.open_inference.repository import EXTENSION, Repository
from ..protocols.open_inference.routes import OpenInference
from ..protocols.predictions import Predictions
from ..protocols.sagemaker.batch_transform import BatchTransform
from ..protocols.sagemaker.invocations import SageMaker
from ..protocols.sagemaker.multi_model import MultiModel
from ..protocols.sagemaker.script_calls import ScriptCalls
from ..protocols.sagemaker.sessions import Sessions
from ..protocols.v1 import V1
from ..replicas.member import Member
from ..settings import sagemaker
from ..settings.options import Settings
from ..settings.reader import environment
from ..slowdown import Slowdown
from .timers import later

log = logging.getLogger("slipway")

EXPANSION = 4
"""Arrays of a compressed or sparse body may be so many times as large as the largest body."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the server that its routes need. ``guard``, ``member``, ``slowdown`` and ``keys``: None
    where settings leave them out."""

    settings: Settings
    models: Models
    follower: Follower
    changes: Changes
    lifecycle: Lifecycle
    metrics: Metrics
    hot: HotPath
    guard: Guard | None
    member: Member | None
    slowdown: Slowdown | None
    keys: ApiKeys | None


class Routing:
    """All routes, and the entries of the loaded models in the hot table."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._table = parts.hot.table
        self._bound: dict[str, list[bytes]] = {}
        self._fixed: frozenset[bytes] = frozenset()  # URLs in the hot table that belong to no model
        self.routes = self._built()
        for route in self.routes:
            if route.hot and "{" not in route.path:
                self._enter(route, {})
        self._fixed = frozenset(self._table)

    def _built(self) -> list[Route]:
        settings = self._parts.settings
        max_body_bytes = self._parts.hot.max_body_bytes
        expander = Expander(max_body_bytes, self._parts.metrics, self._parts.hot.account)
        formats = codecs(
            min(EXPANSION * max_body_bytes, MAX_EXPANDED_BYTES) if settings.max_body_mb else MAX_EXPANDED_BYTES
        )
        platform_routes = self._platform_routes(expander, formats)
        extensions = [EXTENSION] if self._parts.guard is not None else []
        open_inference = OpenInference(
            *(self._parts.models, self._parts.lifecycle, self._parts.metrics, expander, VERSION, extensions),
            None if self._parts.member is None else partial(self._parts.member.gather, "statistics"),
        )
        dashboard = self._page()
        v1 = V1(
            self._parts.models,
            self._parts.lifecycle,
            self._parts.metrics,
            expander,
            lists=not settings.multi_model,
            front=None if dashboard is None else dashboard.front,
        )
        embeddings = Embeddings(self._parts.models, self._parts.lifecycle, self._parts.metrics, expander, VERSION)
        if self._parts.slowdown is not None:
            for codec in (*formats, open_inference.codec, v1.codec, v1.events):
                self._parts.slowdown.codec(codec)
            for writer in embeddings.writers:
                self._parts.slowdown.writer(writer)
        inference = [*platform_routes, *open_inference.routes(), *v1.routes(), *embeddings.routes()]
        repository: list[Route] = []
        if self._parts.guard is not None:
            given = (self._parts.models, self._parts.follower, self._parts.changes, self._parts.guard)
            repository = Repository(*given, self._parts.hot.account).routes()
        return [
            *inference,
            metrics_route(self._parts.metrics, None if self._parts.member is None else self._parts.member.scrape),
            *([] if dashboard is None else dashboard.routes()),
            *repository,
        ]

    def _platform_routes(self, expander: Expander, formats: Sequence[Codec]) -> list[Route]:
        """The routes of SageMaker: of one model and its streams, or of a multi-model endpoint; TorchServe's beside the
        first."""
        settings = self._parts.settings
        negotiator = Negotiator(
            formats,
            default_content_type=settings.default_content_type or None,
            default_accept=settings.default_accept,
        )
        scripts = ScriptCalls(settings.default_content_type, settings.default_accept)
        sessions = Sessions(settings.session_s, time.time, later=later) if settings.sessions else None
        front = SageMaker(
            self._parts.models,
            self._parts.lifecycle,
            negotiator,
            scripts,
            self._parts.metrics,
            expander,
            settings.stream_rows,
            sessions,
        )
        if settings.multi_model:
            if settings.sessions:
                log.warning("setting has no effect with --multi-model setting=sessions; unset it")
            return [
                front.health(),
                *MultiModel(self._parts.models, self._parts.changes, front, platform_guard(settings)).routes(),
            ]
        return [
            *front.routes(),
            *Predictions(self._parts.models, front).routes(),
            *BatchTransform(self._parts.models, self._parts.lifecycle, settings).routes(),
        ]

    def _page(self) -> Dashboard | None:
        """The page for browsers; None where it is switched off, and on SageMaker, whose clients are no browsers."""
        settings = self._parts.settings
        if not settings.dashboard or settings.multi_model or sagemaker.is_platform(environment()):
            return None
        given = (self._parts.models, self._parts.lifecycle, self._parts.metrics, VERSION, self._parts.guard)
        if self._parts.member is None:
            return Dashboard(*given)
        return Dashboard(*given, self._parts.member.scrape, partial(self._parts.member.gather, "descriptions"))

    def bind(self, name: str, references: Mapping[str, ServedModel]) -> None:
        """Replace the routes of a model, its versions and labels in the hot table, between two requests."""
        for path in self._bound.pop(name, ()):
            self._table.pop(path, None)
        if not references:
            return
        labels = self._parts.models.of(name).labels
        entered = self._bound[name] = []
        for route in self.routes:
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
        if self._parts.keys is not None and route.path not in OPEN:
            handler = self._parts.keys.around(handler)
        self._table.setdefault(path, {}).update({method.encode(): handler for method in route.methods})
        return path
