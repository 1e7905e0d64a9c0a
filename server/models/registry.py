"""The registry: the models in memory by name, and how versions are loaded, switched and unloaded without a failed
request.

Longer than other files: every change of a version's state stands here, so that the order of the steps can be read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, TypeVar

from ..artifact import Artifact
from ..errors import (
    AlreadyLoaded,
    BrokenArtifact,
    NotReady,
    OutOfMemory,
    Overloaded,
    SlipwayError,
    UnknownModel,
    release,
)
from ..observe.metrics import Metrics
from ..request import Head
from ..settings.options import Settings
from ..slowdown import Slowdown
from ..system.memory import Budget, file_bytes, to_free
from . import repository
from .load import Loader
from .load_threads import LoadThreads
from .names import check_name, check_version, shown
from .releases import Releases
from .repository import Found
from .served import Capture, ServedModel, close, close_unused
from .traffic import Rules
from .versions import State, Version, Versions

if TYPE_CHECKING:
    from ..observe.tracing import Tracing

log = logging.getLogger("slipway.models")

KEPT_NAMES = 100
"""Names without a version in memory whose versions and reasons are kept for listings."""

MAX_LOADS = 100
"""Loads and unloads that may wait for each other."""

Done = TypeVar("Done")
OnChange = Callable[[str, Mapping[str, ServedModel]], None]
"""Called with a name and every version or label that stands for a model of that name now; empty: the name is gone."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a version is loaded.

    ``pinned``: never evicted. ``activate``: answer by default from now on; False: leave that to the current version;
    None: answer if it is the highest. ``retire``: unload the versions that are not in use any more.
    ``reload``: replace the same version if it is loaded, instead of refusing. ``load``: the number of the call that
    loads it, by which the processes of one server tell a version from the same version loaded again; 0: no call.
    """

    pinned: bool = False
    activate: bool | None = None
    retire: bool = False
    reload: bool = False
    load: int = 0


AS_IT_IS = LoadOptions()


class Models:
    """All models by name. Everything here runs on the event loop; only reading, building and closing do not.

    :meth:`get`, :meth:`ask` and :meth:`ask_default` look a model up in dictionaries that change between two requests
    and never during one, which makes a switch atomic.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        loader: Loader | None = None,
        budget: Budget | None = None,
        slowdown: Slowdown | None = None,
    ) -> None:
        """``slowdown``: may slow down the stages of all models; None: nothing can."""
        self._settings = settings
        self._metrics = metrics
        self.slowdown = slowdown
        self._loader = loader or Loader(settings, slowdown, lambda reason: self.on_device_lost(reason))
        self._budget = budget or Budget.of(settings.memory_budget_mb)
        self._versions: dict[str, Versions] = {}
        self._current: dict[str, ServedModel] = {}
        self._references: dict[str, Mapping[str, ServedModel]] = {}
        self._default: ServedModel | None = None
        self.loads = LoadThreads(settings.load_timeout_s)
        self._tasks: set[asyncio.Task[object]] = set()
        self._closed = False
        self.last_load = 0
        self.on_change: OnChange = lambda _name, _references: None
        self.trace: Tracing | None = None
        self.capture: Capture | None = None
        """Called with every request of every model that is loaded from now on."""
        self.on_device_lost: Callable[[str], None] = lambda _reason: None
        self.releases = Releases(
            self.of,
            self.publish,
            probation_s=settings.probation_s,
            rules=Rules(settings.probation_error_rate, settings.probation_latency),
        )

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """A model by name, and by version or label if given. Raises UnknownModel, naming the loaded models."""
        model = self._current.get(name) if version is None else self._references.get(name, {}).get(version)
        if model is None:
            raise self._unknown(name, version)
        return model

    def ask(self, name: str, head: Head) -> ServedModel:
        """The version of a model that answers this request, a canary included. Raises UnknownModel."""
        model = self._current.get(name)
        if model is None:
            raise self._unknown(name, None)
        return model if model.choose is None else model.choose(head)

    def ask_default(self, head: Head) -> ServedModel:
        """The version of the default model that answers this request. Raises UnknownModel when there is none."""
        model = self._default
        if model is None:
            return self.default()
        return model if model.choose is None else model.choose(head)

    def default(self) -> ServedModel:
        """The model that answers /invocations. Raises UnknownModel when there is none."""
        if self._default is None:
            named = self._settings.default_model
            raise self._unknown(named, None) if named else UnknownModel("no model is loaded")
        return self._default

    def all(self) -> list[ServedModel]:
        """Every version that is in memory and answers."""
        return [one.model for versions in self._versions.values() for one in versions.ready() if one.model is not None]

    def stalled(self) -> str:
        """Which models hold requests and make no progress, and why; empty when all do. Called about once a second."""
        reasons = []
        for model in self.all():
            try:
                model.scheduler.check()
            except Exception:
                log.exception("checking the progress of a model failed model=%s", model.name)
            if model.scheduler.stalled:
                reasons.append(f"model {model.name!r} makes no progress: {model.scheduler.stalled}")
        return "; ".join(reasons)

    def fail(self, error: SlipwayError) -> None:
        """End every request of every model with an error; new ones get it too. For a device that is lost for good."""
        for model in self.all():
            model.scheduler.fail(error)

    async def at_rest(self, name: str, version: str) -> None:
        """Wait until a version is neither being loaded nor unloaded."""
        while self._tasks and (versions := self._versions.get(name)) is not None:
            here = versions.known.get(version)
            if version not in versions.loading and (here is None or here.state is not State.UNLOADING):
                return
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    def versions(self, name: str) -> list[str]:
        """The versions of a model that answer, from the lowest to the highest."""
        return [one.version for one in reversed(self.of(name).ready())]

    def version(self, name: str, version: str) -> Version | None:
        """A version that is in memory and answers; None where there is none."""
        here = self._versions[name].known.get(version) if name in self._versions else None
        return here if here is not None and here.state is State.READY else None

    def order(self) -> list[str]:
        """The names that answer; the first is the default where none is named."""
        return list(self._current)

    def arrange(self, names: Sequence[str]) -> None:
        """Bring the names that answer into this order."""
        ordered = [name for name in names if name in self._current]
        self._current = {name: self._current[name] for name in dict.fromkeys((*ordered, *self._current))}
        self._choose_default()

    def known(self) -> list[Versions]:
        """Every name that was loaded or should have been, with all its versions."""
        return list(self._versions.values())

    async def load(
        self, path: Path, options: LoadOptions = AS_IT_IS, *, name: str = "", version: str = ""
    ) -> ServedModel:
        """Load, warm up and publish an artifact; name and version are its own where none are given.

        The load goes on when the caller is cancelled. Raises AlreadyLoaded (it is there, or on its way), OutOfMemory,
        NoSuchArtifact or BrokenArtifact, with the reason.
        """
        try:
            identify = partial(repository.identify, path, self._settings, name, version)
            found = await self.loads.run(shown(name or path.name), identify)
        except (OSError, ValueError) as error:  # a name that the file system cannot have
            raise BrokenArtifact(f"the path cannot be read: {getattr(error, 'strerror', None) or error}") from error
        return await self.load_found(found, options)

    async def load_found(self, found: Found, options: LoadOptions = AS_IT_IS) -> ServedModel:
        """As :meth:`load`, for what a scan of the repository has found."""
        if self._closed:
            raise NotReady("the server is stopping")
        check_name(found.name)
        check_version(found.version)
        if len(self._tasks) >= MAX_LOADS:
            raise Overloaded(f"{MAX_LOADS} loads and unloads are waiting; retry when they are done", retry_after_s=10)
        versions = self.named(found.name)
        here = versions.known.get(found.version)
        if found.version in versions.loading:
            raise AlreadyLoaded(f"version {found.version!r} of model {found.name!r} is being loaded already")
        if here is not None and (here.state is State.UNLOADING or (here.state is State.READY and not options.reload)):
            state = "loaded already" if here.state is State.READY else "being unloaded: try again"
            raise AlreadyLoaded(f"version {found.version!r} of model {found.name!r} is {state}")
        fresh = versions.loading[found.version] = Version(found, options.pinned, load=options.load)
        self.last_load = max(self.last_load, options.load)
        return await self._outlive(self._load(versions, fresh, options))

    async def unload(self, name: str, version: str | None = None, reason: str = "it was unloaded") -> None:
        """Unload a model, or one version: new requests are refused, admitted ones answered, memory is given back.

        The unload goes on when the caller is cancelled. Raises UnknownModel.
        """
        versions = self.of(name)
        gone = versions.ready() if version is None else [versions.find(version)]
        if not gone:
            raise self._unknown(name, version)
        await self._outlive(self._end(versions, gone, reason))

    def forget(self, name: str) -> None:
        """Drop the history of a name that has no version in memory and none being loaded, so that names which are never
        used again do not take memory."""
        versions = self._versions.get(name)
        if versions is not None and not versions.loading and not versions.in_memory():
            del self._versions[name]
            self._references.pop(name, None)

    async def close(self) -> None:
        """Give up the loads under way, and unload all models."""
        self._closed = True
        self.loads.stop()
        self.releases.close()
        while self._tasks:
            await asyncio.wait(self._tasks)
        for versions in self.known():
            await self._end(versions, versions.ready(), "the server is stopping")

    async def _load(self, versions: Versions, fresh: Version, options: LoadOptions) -> ServedModel:
        found = fresh.found
        try:
            async with self.loads.turn():
                model = await self._build(fresh)
        except (Exception, SystemExit) as error:  # a script runs at load, and may call sys.exit
            failure = error
            if not isinstance(failure, SlipwayError):
                log.exception("loading failed model=%s version=%s", found.name, found.version)
                failure = BrokenArtifact("the model could not be loaded; the server's log has the details")
            self._failed(versions, fresh, str(failure))
            release(error)  # its frames hold what had been loaded
            raise failure from error
        del versions.loading[found.version]
        replaced = versions.known.get(found.version)
        current = versions.current()
        model.trace, model.capture = self.trace, self.capture
        fresh.model, fresh.state, fresh.loaded_ns = model, State.READY, perf_counter_ns()
        if replaced is not None and replaced.model is not None:
            self.releases.part(versions, replaced.model, "the version was loaded again")
        versions.known[found.version] = fresh
        if options.activate is False and current is not None:
            versions.chosen = versions.chosen or current.version
        self._metrics.add(model.metrics)
        if options.activate:
            self.releases.promote(found.name, found.version, "loaded to take over")
        self.publish(versions)
        if versions.current() is fresh and current is not None and current.model is not None:
            self.releases.took_over(found.name, model, current.model)
        if replaced is not None and replaced.model is not None:
            self.releases.part(versions, replaced.model, "the version was loaded again")
        if replaced is not None and replaced.model is not None:
            await self._free(replaced, "it was loaded again")
        if options.retire:
            kept, current = self.releases.pointed_at(versions), versions.current()
            gone = [one for one in versions.ready() if one is not current and one.version not in kept]
            await self._end(versions, gone, "it was replaced")
        return model

    async def _build(self, fresh: Version) -> ServedModel:
        loop, run, name = asyncio.get_running_loop(), self.loads.run, fresh.found.name
        until_s = None if self.loads.limit_s is None else loop.time() + self.loads.limit_s
        artifact, weight = await run(name, partial(_open, fresh.found, self._settings), until_s=until_s)
        await self._make_room(artifact, weight)
        before = self._budget.resident()
        model = await run(name, partial(self._loader.build, artifact, loop), close_unused, until_s)
        model.metrics.file_bytes = weight
        fresh.bytes = model.metrics.memory_bytes = max(self._budget.resident() - before, weight)
        return model

    async def _make_room(self, artifact: Artifact, weight: int) -> None:
        """Evict the least recently used versions until the model fits. Versions of the model's own name stay.

        Raises OutOfMemory before anything is evicted when that would not free enough.
        """
        name = artifact.manifest.name
        needed = self._budget.needed_bytes(weight)
        missing = self._budget.missing_bytes(needed)
        others = [one for versions in self.known() if versions.name != name for one in versions.ready()]
        evicted = to_free(missing, [one for one in others if not one.pinned])
        for one in evicted or ():
            log.info("evicting model=%s version=%s to_load=%s", one.found.name, one.version, name)
            await self._end(self._versions[one.found.name], [one], f"it was evicted to make room for {name!r}")
        missing = self._budget.missing_bytes(needed)
        if evicted is None or missing > 0:
            budget = (self._budget.budget_bytes or 0) / 1e6
            raise OutOfMemory(
                f"model {name!r} needs about {needed / 1e6:.0f} MB to load, {missing / 1e6:.0f} MB more than is left of"
                f" the {budget:.0f} MB that this process may use: unload a model, or raise --memory-budget-mb"
            )

    def _failed(self, versions: Versions, fresh: Version, reason: str) -> None:
        """Keep the reason of a failed load; a version that is in memory stays as it is."""
        del versions.loading[fresh.version]
        fresh.state, fresh.reason = State.UNAVAILABLE, shown(reason)
        here = versions.known.get(fresh.version)
        if here is None or here.state is State.UNAVAILABLE:
            versions.known[fresh.version] = fresh
        else:
            here.reason = f"loading it again failed: {shown(reason)}"
        self._prune(versions)

    def _prune(self, versions: Versions) -> None:
        """Forget the oldest of the versions and names that are not in memory, so that their number is bounded."""
        versions.prune()
        gone = [one.name for one in self.known() if not one.loading and not one.in_memory()]
        for name in gone[: max(len(gone) - KEPT_NAMES, 0)]:
            self.forget(name)

    async def _end(self, versions: Versions, gone: list[Version], reason: str) -> None:
        """Unpublish versions, drain them and free them."""
        for one in gone:
            one.state, one.reason = State.UNLOADING, reason
            if one.model is not None:
                self.releases.part(versions, one.model, f"version {one.version} is gone: {reason}")
            versions.forget(one.version)
        self.publish(versions)
        for one in gone:
            await self._free(one, reason)
        self._prune(versions)

    async def _free(self, one: Version, reason: str) -> None:
        model = one.model
        if model is None:
            return
        await close(model, self._settings.drain_timeout_s)
        self._metrics.remove(model.metrics)
        one.model, one.state, one.reason = None, State.UNAVAILABLE, reason
        log.info("model unloaded model=%s version=%s reason=%r", one.found.name, one.version, reason)

    def publish(self, versions: Versions) -> None:
        """Bring the look-up dictionaries up to date with the versions of a name."""
        current = versions.current()
        if current is not None and current.model is not None:
            self._current[versions.name] = current.model
        else:
            self._current.pop(versions.name, None)
        self._references[versions.name] = references = versions.references()
        self._choose_default()
        self.on_change(versions.name, references)

    def _choose_default(self) -> None:
        self._default = self._current.get(self._settings.default_model)
        if not self._settings.default_model:
            self._default = next(iter(self._current.values()), None)

    def named(self, name: str) -> Versions:
        """All versions of a name, which is known from now on."""
        return self._versions.setdefault(name, Versions(name))

    def of(self, name: str) -> Versions:
        """All versions of a name, loaded or not. Raises UnknownModel for a name that was never loaded."""
        if name not in self._versions:
            raise self._unknown(name, None)
        return self._versions[name]

    def _unknown(self, name: str, version: str | None) -> UnknownModel:
        versions = self._versions.get(name)
        if versions is not None and version is not None and versions.ready():
            try:
                versions.find(version)
            except UnknownModel as error:
                return error
        # Neither reasons, which quote paths and exceptions, nor other names: clients of one model read this.
        return UnknownModel(f"no model named {name[:80]!r} is loaded; the server's log and /admin/models say why")

    async def _outlive(self, work: Awaitable[Done]) -> Done:
        """Finish ``work`` even when the caller is cancelled."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_failure)
            raise


def _open(found: Found, settings: Settings) -> tuple[Artifact, int]:
    """An artifact and the bytes of its files. Blocking file access."""
    artifact = repository.open_found(found, settings)
    return artifact, file_bytes(artifact)


def _log_failure(task: asyncio.Future[Done]) -> None:
    """Log the error of work whose caller was cancelled."""
    if not task.cancelled() and task.exception() is not None:
        log.warning("work failed after its caller left error=%r", str(task.exception()))
