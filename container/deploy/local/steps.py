"""The steps of the local engine from the state of a folder to the wanted one. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..calls import Call
from ..errors import NotThere
from ..order import Order
from ..plan import Action, Step
from . import state
from .state import IN_SERVICE, Folder
from .wanted import root

Document = Mapping[str, Any]
COMPARED = ("release", "port", "instances", "candidate")
"""Settings whose change needs a step."""


def folder_of(order: Order) -> Folder:
    return Folder(root(order.description) / "deployments" / order.description.name)


def require(order: Order) -> Folder:
    """The folder of a deployment that exists. Raises NotThere."""
    folder = folder_of(order)
    if not folder.wanted.exists():
        raise NotThere(f"there is no deployment {order.description.name} in {folder.root.parent}: run up first")
    return folder


@dataclass(frozen=True, slots=True)
class Found:
    """The state of a folder. ``wanted``: the newest; ``stands``: the newest that did not fail, {} without one."""

    wanted: Document
    stands: Document
    report: Document
    releases: frozenset[str]
    runs: bool

    @property
    def failed(self) -> bool:
        """Whether the host refused what is wanted."""
        return bool(self.wanted) and self.report.get("failed", {}).get("attempt") == self.wanted["attempt"]

    @property
    def in_service(self) -> bool:
        done = self.report.get("attempt") == self.wanted.get("attempt") and self.report.get("status") == IN_SERVICE
        return done and self.runs and not self.failed


def find(folder: Folder) -> Found:
    """Read a folder."""
    wanted, report = state.read(folder.wanted), state.read(folder.report)
    failed = bool(wanted) and report.get("failed", {}).get("attempt") == wanted["attempt"]
    stands = state.read(folder.before) if failed else wanted
    return Found(wanted, stands, report, frozenset(folder.releases()), state.running(folder))


def standing(folder: Folder) -> Found:
    """What a folder holds of a deployment that serves. Raises NotThere where its first attempt failed."""
    found = find(folder)
    if not found.stands:
        raise NotThere(f"{folder.root.name} does not serve anything yet: run up first")
    return found


def served(found: Found, asked: Document) -> dict[str, Any]:
    """The wanted deployment that serves a release; the one that serves now becomes the previous one."""
    before = found.stands
    other = before.get("release") != asked["release"]
    return {**asked, "previous": before.get("release") if other else before.get("previous"), "candidate": None}


def compared(found: Found, candidate: Document) -> dict[str, Any]:
    """The deployment that serves, with a candidate beside it."""
    return {**found.stands, "candidate": dict(candidate)}


def alone(found: Found) -> dict[str, Any]:
    """The deployment that serves, without a candidate."""
    return {**found.stands, "candidate": None}


def steps(folder: Folder, found: Found, target: Document, needed: Sequence[Document] = ()) -> Iterator[Step]:
    """From what exists to ``target``. ``needed``: settings of the releases that it needs and that may be new."""
    name = folder.root.name
    for settings in needed:
        release = settings["release"]
        if release in found.releases:
            yield Step(Action.NOTHING, "release", release)
        else:
            yield Step(Action.CREATE, "release", release, (Call("local", "PutRelease", dict(settings)),))
    same = not found.failed and all(found.wanted.get(key) == target.get(key) for key in COMPARED)
    if same:
        yield Step(Action.NOTHING, "deployment", name)
    else:
        put = {**target, "attempt": found.wanted.get("attempt", 0) + 1}
        action = Action.UPDATE if found.wanted else Action.CREATE
        yield Step(action, "deployment", name, (Call("local", "PutDeployment", put),), _why(target))
    yield _endpoint(name, found, target, same=same)
    keep = {target["release"], target.get("previous"), (target.get("candidate") or {}).get("release")}
    for old in sorted(found.releases - keep):
        call = Call("local", "DeleteRelease", {"Name": name, "Release": old})
        yield Step(Action.DELETE, "release", old, (call,), "no longer used")


def _endpoint(name: str, found: Found, target: Document, *, same: bool) -> Step:
    if same and found.in_service:
        return Step(Action.NOTHING, "endpoint", name)
    moved = bool(found.wanted) and found.wanted.get("port") != target["port"]
    stop = (Call("local", "StopHost", {"Name": name}),) if found.runs and moved else ()
    start = (Call("local", "StartHost", {"Name": name}),) if moved or not found.runs else ()
    # A host that runs notices the wanted deployment by itself.
    calls = (*stop, *start) or (Call("local", "AwaitHost", {"Name": name}),)
    return Step(Action.UPDATE if found.runs else Action.CREATE, "endpoint", name, calls, wait=True)


def _why(target: Document) -> str:
    candidate = target.get("candidate")
    return f"{candidate['kind']} of {candidate['release']}" if candidate else ""
