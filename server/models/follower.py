"""The follower: keeps the models in memory equal to a folder whose content changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

from ..errors import SlipwayError, UnknownModel
from ..settings import Settings
from . import repository
from .registry import LoadOptions, Models
from .repository import Found, Stamp
from .versions import State, Version

log = logging.getLogger("slipway.follower")


class Follower:
    """One folder, as :func:`repository.scan` reads it."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self._models = models
        self._settings = settings
        self._root = Path(settings.model)
        self._mine: set[tuple[str, str]] = set()
        self._failed: dict[tuple[str, str], Stamp] = {}

    async def load_all(self) -> None:
        """Load what is there, pinned. Raises the first error: what cannot be served should not seem to be."""
        for found in self._wanted(await self._scan()):
            await self._models.load_found(found, LoadOptions(pinned=True))
            self._mine.add((found.name, found.version))

    async def load_newest(self, name: str) -> None:
        """Load the versions of one model that are new or changed on disk, and retire what they replace.

        With nothing new there is nothing to do, and that is no error. Raises UnknownModel when the folder has no such
        model, and whatever the load raises.
        """
        wanted = [one for one in self._wanted(await self._scan()) if one.name == name]
        if not wanted:
            raise UnknownModel(f"the folder that this server was started with has no model {name!r}")
        for found in wanted:
            if self._is_stale(found):
                await self._load(found)
        await self._retire(wanted)

    async def refresh(self) -> None:
        """One look: load what is new or changed, unload what is gone. What fails is logged, kept as the version's
        reason, and tried again when its files change."""
        try:
            scanned = await self._scan()
        except SlipwayError as error:
            log.warning("nothing is changed: %s", error)
            return
        wanted = self._wanted(scanned)
        for found in wanted:
            key = found.name, found.version
            if self._is_stale(found) and self._failed.get(key) != found.stamp:
                try:
                    await self._load(found)
                except SlipwayError as error:
                    self._failed[key] = found.stamp
                    log.warning("version %s of model %s is not served: %s", found.version, found.name, error)
        await self._retire(wanted)

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.poll_s)
            try:
                await self.refresh()
            except Exception:
                log.exception("a look into the folder failed; the next one may not")

    async def _load(self, found: Found) -> None:
        self._mine.add((found.name, found.version))
        await self._models.load_found(found, LoadOptions(pinned=True, reload=True))

    async def _retire(self, wanted: Iterable[Found]) -> None:
        """Unload what came from the folder and is not wanted any more, unless somebody points at it."""
        keep = {(one.name, one.version) for one in wanted}
        for versions in self._models.known():
            served = {(versions.name, one.version) for one in versions.ready()}
            if not served & keep:
                continue  # nothing would be left to answer
            pointed_at = self._models.releases.pointed_at(versions)
            for name, version in sorted((served & self._mine) - keep):
                if version not in pointed_at:
                    await self._models.unload(name, version, "the folder has others now")

    def _is_stale(self, found: Found) -> bool:
        """Whether what is in memory is not what lies on disk."""
        here: Version | None = None
        for versions in self._models.known():
            if versions.name == found.name:
                if found.version in versions.loading:
                    return False
                here = versions.known.get(found.version)
        return here is None or here.state is not State.READY or here.found.stamp != found.stamp

    def _wanted(self, scanned: Iterable[Found]) -> list[Found]:
        """The highest versions of each model, lowest first."""
        by_name: dict[str, list[Found]] = {}
        for one in scanned:
            by_name.setdefault(one.name, []).append(one)
        return [one for group in by_name.values() for one in group[-self._settings.keep_versions :]]

    async def _scan(self) -> list[Found]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, repository.scan, self._root, self._settings)
