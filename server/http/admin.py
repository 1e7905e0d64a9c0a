"""The admin API under ``/admin``: load, unload, label, promote, roll back and compare versions, with a typed schema."""

from __future__ import annotations

import asyncio
import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.routing import BaseRoute

from ..errors import Forbidden
from ..models import Models
from ..models.changes import Changes
from ..models.description import Description, describe, merge
from ..models.versions import State
from ..protocols.guard import Guard
from ..protocols.listing import Gather, described, nobody
from ..request import Head
from ..slowdown import MAX_EXTRA_US, MAX_SECONDS, Slowdown
from .error_document import ERRORS

Name = Annotated[str, InPath(description="The model's name")]
Percent = Annotated[float, Field(gt=0, le=100)]


class Strict(BaseModel):
    """A body in which unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")


class LoadBody(Strict):
    """The artifact to load, and what happens to the versions that are loaded."""

    path: str = Field(
        min_length=1, max_length=4096, description="artifact directory or ONNX file, as the server sees it"
    )
    name: str = Field(default="", description="empty: --name, else the artifact's own")
    version: str = Field(default="", description="empty: the artifact's own")
    pinned: bool = Field(default=False, description="never evicted to make room for another model")
    activate: bool | None = Field(
        default=None, description="answer by default; false: stay beside; null: if it is the highest"
    )
    retire: bool = Field(default=False, description="then unload the versions that nothing points at any more")
    reload: bool = Field(default=False, description="replace the same version instead of refusing it with 409")


class VersionBody(Strict):
    """A version, by its own name or a label."""

    version: str


class RulesBody(Strict):
    """When a canary ends by itself; 0 turns a rule off."""

    error_rate: float = Field(
        default=0.0, ge=0, le=1, description="faults above the stable version's by more than this share"
    )
    latency: float = Field(default=0.0, ge=0, description="p95 above this times the stable version's")
    least: int = Field(default=50, ge=1, description="answers of each version before anything is judged")


class CanaryBody(Strict):
    """A part of the requests that name no version is answered by another one."""

    version: str
    percent: Percent
    rules: RulesBody = RulesBody()


class ShadowBody(Strict):
    """A part of the requests is copied to another version; its answers are compared and dropped."""

    version: str
    percent: Percent = 100.0


class SlowdownBody(Strict):
    """Extra time in one stage of every request, for some seconds."""

    stage: str = Field(description="decode, queue_timer, compute, scatter or encode; gc: no garbage collection")
    extra_us: int = Field(ge=-MAX_EXTRA_US, le=MAX_EXTRA_US, description="below 0: a shorter queue_timer")
    seconds: float = Field(default=30.0, gt=0, le=MAX_SECONDS, description="then the stage is as it was")


class SlowdownDocument(BaseModel):
    """The stage that is slowed down; both null: none is."""

    stage: str | None
    extra_us: int | None


class ArmDocument(BaseModel):
    """The figures of one of two versions that are compared."""

    version: str
    answers: int
    faults: int
    p95_ms: float


class ComparisonDocument(BaseModel):
    """A running comparison; ``outcomes`` and ``largest_difference`` are a shadow's."""

    kind: str
    percent: float
    stable: ArmDocument
    other: ArmDocument
    outcomes: dict[str, int] = {}
    largest_difference: float | None = None


class VersionDocument(BaseModel):
    """The state of a version. ``reason``: why it is not loaded."""

    version: str
    state: State
    reason: str
    pinned: bool
    path: str
    memory_bytes: int
    load_seconds: float
    independent_rows: bool = Field(description="false: requests run one at a time, uncut")
    batching_reason: str = Field(description="why requests do not share runs; empty where they may")


class SwitchDocument(BaseModel):
    """When another version took over, and why."""

    at: datetime.datetime
    version: str
    reason: str


class ProbationDocument(BaseModel):
    """A promoted version that is still compared with the version ``before`` it, to which it may be rolled back."""

    version: str
    before: str
    left_s: float
    answers: int
    can_go_back: bool = Field(description="false: the version before is not loaded any more")


class ModelDocument(BaseModel):
    """One model name: its versions, labels, comparison and switches."""

    name: str
    answers: str | None = Field(description="the version that a URL without one means")
    versions: list[VersionDocument]
    labels: dict[str, str]
    comparison: ComparisonDocument | None
    probation: ProbationDocument | None
    switches: list[SwitchDocument]


MODELS = TypeAdapter(list[ModelDocument])


class Admin:
    """The models of this process, how they are changed in all processes, and what the others say of them."""

    def __init__(self, models: Models, changes: Changes, gather: Gather = nobody) -> None:
        self.models = models
        self.make = changes.make
        self._gather = gather

    async def document(self, name: str) -> Any:
        """A model in all processes. Raises UnknownModel for a name that was never loaded."""
        ours = describe(self.models, self.models.of(name))
        return merge(ours, [theirs.get(name) for theirs in await self._gather(name)])

    async def documents(self) -> list[Description]:
        """All models in all processes."""
        return [one async for _, one in described(self.models, self._gather)]

    async def change(self, what: str, name: str, **arguments: Any) -> Any:
        """Change a model in all processes, and describe it."""
        await self.make(what, name=name, **arguments)
        return await self.document(name)


def routes(admin: Admin, guard: Guard) -> list[BaseRoute]:
    """All routes under ``/admin``, for requests that pass the guard."""

    async def check(request: Request) -> None:
        guard.check(Head(b"", b"", list(request.scope["headers"])))

    of_models, of_stages = (
        APIRouter(prefix=prefix, tags=["Admin"], dependencies=[Depends(check)], responses=ERRORS)
        for prefix in ("/admin/models", "/admin")
    )
    _add_loading(of_models, admin)
    _add_releases(of_models, admin)
    _add_slowdown(of_stages, admin)
    return [*of_models.routes, *of_stages.routes]


def _add_slowdown(routes: APIRouter, admin: Admin) -> None:
    def switched_on() -> Slowdown:
        if admin.models.slowdown is None:
            raise Forbidden("this server does not slow down its stages on request: start it with --slowdowns")
        return admin.models.slowdown

    def document() -> SlowdownDocument:
        now = switched_on().now
        if now is None:
            return SlowdownDocument(stage=None, extra_us=None)
        return SlowdownDocument(stage=now.stage, extra_us=now.extra_us)

    @routes.get("/slowdown", summary="The stage that is slowed down")
    async def slowed() -> SlowdownDocument:
        return document()

    @routes.put("/slowdown", summary="Slow a stage down, to see what its time costs")
    async def slow(body: SlowdownBody) -> SlowdownDocument:
        await admin.make("slow", stage=body.stage, extra_us=body.extra_us, seconds=body.seconds)
        return document()

    @routes.delete("/slowdown", summary="End the slowdown")
    async def end() -> SlowdownDocument:
        await admin.make("end_slowdown")
        return document()


def _add_loading(routes: APIRouter, admin: Admin) -> None:
    @routes.get("", summary="All models, their versions, labels and comparisons", response_model=list[ModelDocument])
    async def index() -> Response:
        documents = MODELS.validate_python(await admin.documents())
        return Response(await asyncio.to_thread(MODELS.dump_json, documents), media_type="application/json")

    @routes.post("", summary="Load an artifact; goes on if the client leaves", response_model=ModelDocument)
    async def load(body: LoadBody) -> Any:
        return await admin.document(await admin.make("load", **body.model_dump()))

    @routes.get("/{name}", summary="One model", response_model=ModelDocument)
    async def model(name: Name) -> Any:
        return await admin.document(name)

    @routes.delete(
        "/{name}",
        summary="Unload all versions; answers when their memory is given back",
        response_model=ModelDocument,
    )
    async def unload(name: Name) -> Any:
        return await admin.change("unload", name)

    @routes.delete("/{name}/versions/{version}", summary="Unload one version", response_model=ModelDocument)
    async def unload_version(name: Name, version: str) -> Any:
        return await admin.change("unload", name, version=version)


def _add_releases(routes: APIRouter, admin: Admin) -> None:
    @routes.put("/{name}/labels/{label}", summary="Point a label at a version", response_model=ModelDocument)
    async def label(name: Name, label: str, body: VersionBody) -> Any:
        return await admin.change("label", name, label=label, version=body.version)

    @routes.delete("/{name}/labels/{label}", summary="Remove a label", response_model=ModelDocument)
    async def unlabel(name: Name, label: str) -> Any:
        return await admin.change("unlabel", name, label=label)

    @routes.post("/{name}/promote", summary="Answer with this version from now on", response_model=ModelDocument)
    async def promote(name: Name, body: VersionBody) -> Any:
        return await admin.change("promote", name, version=body.version)

    @routes.post(
        "/{name}/rollback",
        summary="End a comparison, or go back to the version before the last promotion",
        response_model=ModelDocument,
    )
    async def rollback(name: Name) -> Any:
        return await admin.change("roll_back", name)

    @routes.put(
        "/{name}/canary", summary="Let another version answer a part of the requests", response_model=ModelDocument
    )
    async def canary(name: Name, body: CanaryBody) -> Any:
        return await admin.change("canary", name, version=body.version, percent=body.percent, **body.rules.model_dump())

    @routes.put(
        "/{name}/shadow",
        summary="Copy a part of the requests to another version and compare the answers",
        response_model=ModelDocument,
    )
    async def shadow(name: Name, body: ShadowBody) -> Any:
        return await admin.change("shadow", name, version=body.version, percent=body.percent)
