"""The state of the models that an operator can change, as a document: read here, and brought about in another process.

It holds which versions are loaded from where, which of them answer, why, labels, comparisons, and the slowdown.
Figures, such as a canary's answers, are each process's own.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..artifact import Overrides
from .follower import Follower
from .registry import LoadOptions, Models
from .repository import Found
from .traffic import Canary, Rules
from .versions import State, Switch, Version, Versions

log = logging.getLogger("slipway.state")

Document = dict[str, Any]


def state_of(models: Models, follower: Follower) -> Document:
    """The state, which can be written as JSON. Equal states have equal documents."""
    return {
        "models": {
            versions.name: _name(models, follower, versions)
            for versions in models.known()
            if versions.rows() or versions.labels
        },
        "order": models.order(),
        "slowdown": None if models.slowdown is None else models.slowdown.to_json(),
    }


async def follow(models: Models, follower: Follower, wanted: Document) -> None:
    """Bring the models to this state. Versions are loaded before others are unloaded, so that a name always answers.

    Raises the error of a load; the state is then in between, and another call brings it to any other state.
    """
    for name, document in wanted["models"].items():
        for row in document["versions"]:
            await _load(models, follower, name, row)
    for name, document in wanted["models"].items():
        models.named(name)  # also one whose versions are all gone: listings say why
        _switch(models, name, document)
    for versions in models.known():
        document = wanted["models"].get(versions.name, {"versions": [], "failed": [], "switches": []})
        kept = {row["version"]: row for row in document["versions"]}
        gone = {row["version"] for row in document["failed"]}
        for one in versions.ready():
            if one.version in kept:
                one.reason = kept[one.version]["reason"]
            else:
                if one.version not in gone:
                    follower.look_again(versions.name, one.version)
                await models.unload(versions.name, one.version, _reason(document) or "it was unloaded")
        if versions.name not in wanted["models"]:
            models.forget(versions.name)
        versions.recall(
            Version(_found(versions.name, row), row["pinned"], State.UNAVAILABLE, row["reason"])
            for row in document["failed"]
        )
        versions.switches.clear()
        versions.switches.extend(Switch(*row) for row in document["switches"])
    models.arrange(wanted["order"])
    if models.slowdown is not None:
        models.slowdown.follow(wanted["slowdown"])


def _name(models: Models, follower: Follower, versions: Versions) -> Document:
    comparison = models.releases.comparison(versions.name)
    current = versions.current()
    ready = versions.ready()
    return {
        "versions": [_version(follower, one) for one in ready],
        "failed": [_place(one) for one in versions.rows() if one.state is State.UNAVAILABLE],
        "answers": current.version if current is not None else None,
        "chosen": versions.chosen,
        "previous": versions.previous,
        "labels": dict(versions.labels),
        "comparison": None if comparison is None else comparison.to_json(),
        "probation": models.releases.probation(versions.name) is not None,
        "switches": [[one.at_s, one.version, one.reason] for one in versions.switches],
    }


def _version(follower: Follower, one: Version) -> Document:
    return {
        **_place(one),
        "load": one.load,
        "followed": follower.owns(one.found.name, one.version),
    }


def _place(one: Version) -> Document:
    found = one.found
    return {
        "reason": one.reason,
        "pinned": one.pinned,
        "version": found.version,
        "path": str(found.path),
        "given": None if found.given is None else str(found.given),
        "stamp": [list(row) for row in found.stamp],
        "overrides": asdict(found.overrides),
        "sent": None if found.sent is None else str(found.sent),
    }


def _found(name: str, row: Document) -> Found:
    stamp = tuple((str(file), int(size), int(changed)) for file, size, changed in row["stamp"])
    given, sent = (None if row[key] is None else Path(row[key]) for key in ("given", "sent"))
    return Found(Path(row["path"]), name, row["version"], stamp, given, Overrides(**row["overrides"]), sent=sent)


async def _load(models: Models, follower: Follower, name: str, row: Document) -> None:
    """Load a version unless this very load of it is there."""
    found = _found(name, row)
    await models.at_rest(name, found.version)  # a poll may be loading it
    here = models.version(name, found.version)
    if here is None or (here.load, here.found) != (row["load"], found):
        options = LoadOptions(pinned=row["pinned"], activate=False, reload=True, load=row["load"])
        await models.load_found(found, options)
    if row["followed"]:
        follower.take_over(found)


def _reason(document: Document) -> str:
    """Why the version that answers took over, as the process says that is followed."""
    return str(document["switches"][-1][2]) if document["switches"] else ""


def _switch(models: Models, name: str, document: Document) -> None:
    """Let the same version answer, with the same labels and the same comparison."""
    if not document["versions"]:
        return
    versions, releases = models.of(name), models.releases
    current = versions.current()
    if document["answers"] and (current is None or current.version != document["answers"]):
        releases.promote(name, document["answers"], _reason(document) or "another process answers with it")
    if not document["probation"]:
        releases.end_probation(name)
    comparison, wanted = releases.comparison(name), document["comparison"]
    if comparison is not None and comparison.to_json() != wanted:
        releases.end(name, _reason(document) or "it has ended in another process")
        comparison = None
    if wanted is not None and comparison is None:
        if wanted["kind"] == Canary.KIND:
            releases.canary(name, wanted["version"], wanted["percent"], Rules(**wanted["rules"]))
        else:
            releases.shadow(name, wanted["version"], wanted["percent"])
    versions.chosen, versions.previous = document["chosen"], document["previous"]
    versions.labels = dict(document["labels"])
    models.publish(versions)
