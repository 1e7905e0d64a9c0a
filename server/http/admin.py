"""The admin API under ``/admin``: load, unload, label, promote, roll back and compare versions, with a typed schema."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.routing import BaseRoute

from ..errors import Forbidden
from ..models import LoadOptions, Models
from ..models.names import shown
from ..models.probation import Probation
from ..models.traffic import Arm, Canary, Rules, Shadow
from ..models.versions import State, Version, Versions
from ..protocols.guard import Guard
from ..protocols.listing import IN_A_TURN
from ..request import Head
from ..slowdown import MAX_EXTRA_US, MAX_SECONDS, Injected, Slowdown
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


def routes(models: Models, guard: Guard) -> list[BaseRoute]:
    """All routes under ``/admin``, for requests that pass the guard."""

    async def check(request: Request) -> None:
        guard.check(Head(b"", b"", list(request.scope["headers"])))

    of_models, of_stages = (
        APIRouter(prefix=prefix, tags=["Admin"], dependencies=[Depends(check)], responses=ERRORS)
        for prefix in ("/admin/models", "/admin")
    )
    _add_loading(of_models, models)
    _add_releases(of_models, models)
    _add_slowdown(of_stages, models.slowdown)
    return [*of_models.routes, *of_stages.routes]


def _add_slowdown(routes: APIRouter, slowdown: Slowdown | None) -> None:
    def switched_on() -> Slowdown:
        if slowdown is None:
            raise Forbidden("this server does not slow down its stages on request: start it with --slowdowns")
        return slowdown

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
        switched_on().inject(Injected(body.stage, body.extra_us), body.seconds)
        return document()

    @routes.delete("/slowdown", summary="End the slowdown")
    async def end() -> SlowdownDocument:
        switched_on().end()
        return document()


def _add_loading(routes: APIRouter, models: Models) -> None:
    @routes.get("", summary="All models, their versions, labels and comparisons", response_model=list[ModelDocument])
    async def index() -> Response:
        documents = []
        for number, versions in enumerate(models.known(), 1):
            documents.append(_model(models, versions))
            if number % IN_A_TURN == 0:
                await asyncio.sleep(0)
        return Response(await asyncio.to_thread(MODELS.dump_json, documents), media_type="application/json")

    @routes.post("", summary="Load an artifact; goes on if the client leaves")
    async def load(body: LoadBody) -> ModelDocument:
        options = LoadOptions(body.pinned, body.activate, body.retire, body.reload)
        model = await models.load(Path(body.path), options, name=body.name, version=body.version)
        return _model(models, models.of(model.name))

    @routes.get("/{name}", summary="One model")
    async def model(name: Name) -> ModelDocument:
        return _model(models, models.of(name))

    @routes.delete("/{name}", summary="Unload all versions; answers when their memory is given back")
    async def unload(name: Name) -> ModelDocument:
        await models.unload(name)
        return _model(models, models.of(name))

    @routes.delete("/{name}/versions/{version}", summary="Unload one version")
    async def unload_version(name: Name, version: str) -> ModelDocument:
        await models.unload(name, version)
        return _model(models, models.of(name))


def _add_releases(routes: APIRouter, models: Models) -> None:
    releases = models.releases

    @routes.put("/{name}/labels/{label}", summary="Point a label at a version")
    async def label(name: Name, label: str, body: VersionBody) -> ModelDocument:
        releases.label(name, label, body.version)
        return _model(models, models.of(name))

    @routes.delete("/{name}/labels/{label}", summary="Remove a label")
    async def unlabel(name: Name, label: str) -> ModelDocument:
        releases.unlabel(name, label)
        return _model(models, models.of(name))

    @routes.post("/{name}/promote", summary="Answer with this version from now on")
    async def promote(name: Name, body: VersionBody) -> ModelDocument:
        releases.promote(name, body.version)
        return _model(models, models.of(name))

    @routes.post("/{name}/rollback", summary="End a comparison, or go back to the version before the last promotion")
    async def rollback(name: Name) -> ModelDocument:
        releases.roll_back(name)
        return _model(models, models.of(name))

    @routes.put("/{name}/canary", summary="Let another version answer a part of the requests")
    async def canary(name: Name, body: CanaryBody) -> ModelDocument:
        rules = Rules(body.rules.error_rate, body.rules.latency, body.rules.least)
        releases.canary(name, body.version, body.percent, rules)
        return _model(models, models.of(name))

    @routes.put("/{name}/shadow", summary="Copy a part of the requests to another version and compare the answers")
    async def shadow(name: Name, body: ShadowBody) -> ModelDocument:
        releases.shadow(name, body.version, body.percent)
        return _model(models, models.of(name))


def _model(models: Models, versions: Versions) -> ModelDocument:
    current = versions.current()
    comparison = models.releases.comparison(versions.name)
    return ModelDocument(
        name=versions.name,
        answers=current.version if current is not None else None,
        versions=[_version(one) for one in versions.rows()],
        labels=versions.labels,
        comparison=_comparison(comparison) if comparison is not None else None,
        probation=_probation(models.releases.probation(versions.name)),
        switches=[
            SwitchDocument(
                at=datetime.datetime.fromtimestamp(one.at_s, datetime.UTC), version=one.version, reason=one.reason
            )
            for one in versions.switches
        ],
    )


def _probation(one: Probation | None) -> ProbationDocument | None:
    if one is None:
        return None
    return ProbationDocument(
        version=one.model.version,
        before=one.before_version,
        left_s=one.left_s,
        answers=one.answers,
        can_go_back=one.before is not None,
    )


def _version(one: Version) -> VersionDocument:
    return VersionDocument(
        version=one.version,
        state=one.state,
        reason=shown(one.reason),
        pinned=one.pinned,
        path=shown(str(one.found.path)),
        memory_bytes=one.bytes if one.model is not None else 0,
        load_seconds=one.model.metrics.load_seconds if one.model is not None else 0.0,
        independent_rows=one.model is not None and one.model.independent,
        batching_reason=one.model.batching_reason if one.model is not None else "",
    )


def _comparison(comparison: Canary | Shadow) -> ComparisonDocument:
    if isinstance(comparison, Canary):
        return ComparisonDocument(
            kind="canary",
            percent=comparison.percent,
            stable=_arm(comparison.stable),
            other=_arm(comparison.candidate),
        )
    gap = comparison.largest_difference
    return ComparisonDocument(
        kind="shadow",
        percent=comparison.percent,
        stable=_arm(comparison.stable),
        other=_arm(comparison.shadow),
        outcomes=dict(comparison.outcomes),
        largest_difference=gap if gap != float("inf") else None,
    )


def _arm(arm: Arm) -> ArmDocument:
    return ArmDocument(
        version=arm.model.version, answers=arm.answers, faults=arm.faults, p95_ms=round(arm.p95_ns / 1e6, 3)
    )
