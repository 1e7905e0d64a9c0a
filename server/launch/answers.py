"""What one of several processes answers to the others."""

from __future__ import annotations

from typing import Any

from ..errors import SlipwayError
from ..lifecycle import Lifecycle
from ..models import Models
from ..models.changes import Changes
from ..models.description import describe
from ..models.follower import Follower
from ..models.state import follow, state_of
from ..observe.metrics import Metrics
from ..protocols.metrics import plain
from ..protocols.open_inference.statistics import now
from ..replicas.channel import encode_error
from ..replicas.member import Member


def answer(
    member: Member,
    models: Models,
    follower: Follower,
    changes: Changes,
    lifecycle: Lifecycle,
    metrics: Metrics,
) -> None:
    """Answer what the other processes of this server ask."""

    async def apply(change: Any) -> Any:
        states, result = await changes.apply(change["kind"], change["values"])
        if isinstance(result, SlipwayError):
            return {**states, "error": encode_error(result)}
        return {**states, "result": result}

    async def descriptions(name: Any) -> Any:
        known = [one for one in models.known() if name in (None, one.name)]
        return {one.name: describe(models, one) for one in known}

    async def statistics(asked: Any) -> Any:
        return [now(one) for one in models.all() if [one.name, one.version] in asked]

    async def state(_: Any) -> Any:
        return state_of(models, follower)

    member.answers.update(
        apply=apply,
        descriptions=descriptions,
        families=lambda _: plain(metrics),
        follow=lambda wanted: follow(models, follower, wanted),
        state=state,
        statistics=statistics,
    )
    member.on_held = lifecycle.hold
    lifecycle.held = member.held
