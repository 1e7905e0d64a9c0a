"""The follower: keeps the models in memory equal to a folder whose content changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

from ..errors import SlipwayError, UnknownModel
from ..settings.options import Settings
from . import repository
from .registry import LoadOptions, Models
from .repository import Found, Stamp
from .versions import State, Version

Key = tuple[str, str]
"""Name and version."""

log = logging.getLogger("slipway.follower")


class Follower:
    """One folder, as :func:`repository.scan` reads it."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self._models = models
        self._settings = settings
        self._root = Path(settings.model)
        self._mine: set[Key] = set()
        self._settled: dict[Key, Stamp] = {}

    async def load_all(self) -> None:
        """Load what is there, pinned. Raises the first error: what cannot be served should not seem to be."""
        for found in self._wanted(await self._scan()):
            await self._load(found)
        self._models.default()  # raises when it was named and is not there

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
        """One look: load what is new or changed since the last one, unload what is gone.

        What fails is logged, kept as the version's reason, and tried again when its files change; what somebody has
        unloaded meanwhile stays unloaded until then.
        """
        try:
            scanned = await self._scan()
        except SlipwayError as error:
            log.warning("nothing is changed: %s", error)
            return
        wanted = self._wanted(scanned)
        for found in wanted:
            if self._settled.get((found.name, found.version)) != found.stamp and self._is_stale(found):
                try:
                    await self._load(found)
                except SlipwayError as error:
                    log.warning("version %s of model %s is not served: %s", found.version, found.name, error)
        self._settled = {(found.name, found.version): found.stamp for found in wanted}
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
        key = found.name, found.version
        self._mine.add(key)
        self._settled[key] = found.stamp
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
