"""The follower: loads and unloads models so that memory follows the content of a folder."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..artifact import NO_OVERRIDES, Overrides
from ..errors import BrokenArtifact, SlipwayError, UnknownModel
from ..settings.options import Settings
from . import repository
from .names import shown
from .registry import LoadOptions, Models
from .repository import Found, Stamp
from .versions import State, Version

Key = tuple[str, str]
"""Name and version."""

log = logging.getLogger("slipway.follower")

PATIENCE_S = 10.0
"""How long a poll waits for the loads that it has begun. Longer loads go on, and the next poll does without them."""


class Follower:
    """Follows one folder, as :func:`repository.scan` reads it."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self._models = models
        self._settings = settings
        self._root = Path(settings.model)
        self._mine: set[Key] = set()
        self._settled: dict[Key, Stamp] = {}
        self._loading: set[asyncio.Future[None]] = set()
        self._looking: asyncio.Future[list[Found]] | None = None

    async def load_all(self) -> None:
        """Load all models of the folder, pinned. Raises the first error, so that a broken model stops the start."""
        for found in self._wanted(await self._scan()):
            await self._load(found)
        default, names = self._settings.default_model, [one.name for one in self._models.known()]
        if default and default not in names:
            raise UnknownModel(f"--default-model names {default!r}, which is not loaded; loaded: {', '.join(names)}")

    async def load_newest(self, name: str, overrides: Overrides = NO_OVERRIDES) -> None:
        """Load the versions of one model that are new or changed on disk, and retire the versions that they replace.

        ``overrides`` hold until the model is loaded without them, or changes on disk. Versions that a client has sent
        are replaced, too. Does nothing where no version is new. Raises UnknownModel when the folder has no such model,
        and the errors of the load.
        """
        newest = [one for one in self._wanted(await self._scan()) if one.name == name]
        wanted = [replace(one, overrides=overrides) for one in newest]
        if not wanted:
            raise UnknownModel(f"the folder has no model {name!r}: copy it there first, or send its files")
        for found in wanted:
            if self._is_stale(found):
                await self._load(found)
        await self._retire(wanted)
        await self._drop_sent({name})

    async def load_sent(self, name: str, folder: Path) -> None:
        """Load the versions in a folder that a client has sent, and retire all others of this model.

        They stay until the model is loaded without files or changes on disk. Raises the errors of the load.
        """
        scanned = await self._models.loads.run(shown(name), partial(repository.scan_sent, folder, name, self._settings))
        wanted = self._wanted(scanned)
        if not wanted:
            raise BrokenArtifact("the config lets none of the sent versions be served")
        for found in wanted:
            await self._models.load_found(found, LoadOptions(pinned=True, reload=True))
        await self._replace(name, {one.version for one in wanted}, "a client has sent other versions")

    async def on_disk(self) -> list[Found]:
        """All versions in the folder, loaded or not; none where it cannot be read, or the platform names the models.

        Calls at the same time share one look.
        """
        if self._settings.multi_model:
            return []
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._scan())
        try:
            return await asyncio.shield(self._looking)
        except SlipwayError as error:
            log.warning("reading the model folder failed path=%s error=%r", self._root, str(error))
            return []

    async def refresh(self) -> None:
        """Load the versions that are new or changed since the last poll, and unload those whose files are gone.

        A version that fails is logged, keeps the reason, and is tried again when its files change. A version that was
        unloaded by a call stays unloaded until then.
        """
        try:
            scanned = await self._scan()
        except SlipwayError as error:
            log.warning(
                "reading the model folder failed path=%s error=%r; models stay as they are", self._root, str(error)
            )
            return
        wanted = self._wanted(scanned)
        changed = [found for found in wanted if self._settled.get((found.name, found.version)) != found.stamp]
        loads = [asyncio.ensure_future(self._try(found)) for found in changed if self._is_stale(found)]
        self._loading.update(loads)
        if loads:
            await asyncio.wait(loads, timeout=PATIENCE_S)
        self._loading = {one for one in self._loading if not one.done()}
        self._settled = {(found.name, found.version): found.stamp for found in wanted}
        await self._drop_sent({found.name for found in changed})
        await self._retire(wanted)

    async def follow(self) -> None:
        """Poll the folder every ``poll_s`` seconds, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.poll_s)
            try:
                await self.refresh()
            except Exception:
                log.exception("polling the model folder failed path=%s; retrying", self._root)

    def owns(self, name: str, version: str) -> bool:
        """Whether a version came from the folder."""
        return (name, version) in self._mine

    def take_over(self, found: Found) -> None:
        """Follow a version that came from the folder in another process."""
        self._mine.add((found.name, found.version))
        self._settled[found.name, found.version] = found.stamp

    def look_again(self, name: str, version: str) -> None:
        """Let the next poll load a version if the folder has it: a process that is followed has not seen it yet."""
        self._settled.pop((name, version), None)

    async def _try(self, found: Found) -> None:
        try:
            await self._load(found)
        except SlipwayError as error:
            log.warning("model not loaded model=%s version=%s error=%r", found.name, found.version, str(error))
        except Exception:
            log.exception("model not loaded model=%s version=%s", found.name, found.version)

    async def _load(self, found: Found) -> None:
        key = found.name, found.version
        self._mine.add(key)
        self._settled[key] = found.stamp
        await self._models.load_found(found, LoadOptions(pinned=True, reload=True))

    async def _retire(self, wanted: Iterable[Found]) -> None:
        """Unload versions that came from the folder and are not wanted any more. Versions in use by a label stay."""
        keep = {(one.name, one.version) for one in wanted}
        for versions in self._models.known():
            served = {(versions.name, one.version) for one in versions.ready()}
            if not served & keep:
                continue  # no version would be left to answer
            pointed_at = self._models.releases.pointed_at(versions)
            for name, version in sorted((served & self._mine) - keep):
                if version not in pointed_at:
                    await self._models.unload(name, version, "the folder has other versions now")

    async def _drop_sent(self, names: set[str]) -> None:
        """Unload the versions of these models that a client has sent, where versions of the folder answer again."""
        for versions in self._models.known():
            ours = {one.version for one in versions.ready() if one.found.sent is None}
            if ours and versions.name in names:
                await self._replace(versions.name, ours, "the versions of the folder are back")

    async def _replace(self, name: str, kept: set[str], reason: str) -> None:
        """Unload the versions of a model that are not among ``kept``. Those in use by a label stay."""
        versions = self._models.of(name)
        kept |= self._models.releases.pointed_at(versions)
        for one in versions.ready():
            if one.version not in kept:
                await self._models.unload(name, one.version, reason)

    def _is_stale(self, found: Found) -> bool:
        """Whether the version in memory differs from the version on disk."""
        here: Version | None = None
        for versions in self._models.known():
            if versions.name == found.name:
                if found.version in versions.loading:
                    return False
                here = versions.known.get(found.version)
        if here is None or here.state is not State.READY:
            return True
        ours, theirs = ((one.stamp, one.overrides, one.sent) for one in (here.found, found))
        return ours != theirs

    def _wanted(self, scanned: Iterable[Found]) -> list[Found]:
        """The highest versions of each model, lowest first."""
        by_name: dict[str, list[Found]] = {}
        for one in scanned:
            by_name.setdefault(one.name, []).append(one)
        keep = self._settings.keep_versions
        return [
            one for group in by_name.values() for one in group[-(keep if group[-1].most is None else group[-1].most) :]
        ]

    async def _scan(self) -> list[Found]:
        return await self._models.loads.run(
            shown(self._root.name), partial(repository.scan, self._root, self._settings)
        )
