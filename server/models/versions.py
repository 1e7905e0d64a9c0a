"""The versions of one model: their states, their labels, and the version that answers by default."""

from __future__ import annotations

import enum
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..errors import MalformedInput, UnknownModel
from .repository import Found, version_key
from .served import ServedModel

LABEL = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
MOST_LABELS = 100
"""Labels of one model; each is a few routes."""

REMEMBERED = 20
"""Switches, and versions that are not in memory, that are kept for the admin API."""


class State(enum.Enum):
    """In the words of the Open Inference repository index."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(slots=True, eq=False)
class Version:
    """One version that was loaded or should have been; it stays known with its reason after an unload or a failure."""

    found: Found
    pinned: bool = False
    state: State = State.LOADING
    reason: str = ""
    model: ServedModel | None = None
    bytes: int = 0
    loaded_ns: int = 0
    load: int = 0
    """The number of the call that loaded it; 0 where no call did."""

    @property
    def version(self) -> str:
        return self.found.version

    @property
    def used_ns(self) -> int:
        """When it last answered, or was loaded."""
        return max(self.loaded_ns, self.model.metrics.stages.last_ns if self.model else 0)


@dataclass(frozen=True, slots=True)
class Switch:
    """Another version took over, or a comparison ended, and why. ``at_s`` is seconds of the Unix epoch."""

    at_s: float
    version: str
    reason: str


@dataclass(slots=True)
class Versions:
    """All versions of one model name.

    ``chosen`` is the version that was promoted, or loaded to stay; without one the highest ready version answers.
    """

    name: str
    known: dict[str, Version] = field(default_factory=dict)
    loading: dict[str, Version] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    chosen: str | None = None
    previous: str | None = None
    switches: deque[Switch] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def ready(self) -> list[Version]:
        """The ready versions, from the highest to the lowest."""
        ready = [one for one in self.known.values() if one.state is State.READY]
        return sorted(ready, key=lambda one: version_key(one.version), reverse=True)

    def current(self) -> Version | None:
        """The version that a URL without one means."""
        ready = self.ready()
        return next((one for one in ready if one.version == self.chosen), ready[0] if ready else None)

    def find(self, reference: str) -> Version:
        """A ready version by its own name or a label. Raises UnknownModel with the reason and the ready versions."""
        one = self.known.get(self.labels.get(reference, reference))
        if one is not None and one.state is State.READY:
            return one
        there = ", ".join([repr(one.version) for one in self.ready()] + sorted(self.labels)) or "none"
        raise UnknownModel(f"model {self.name!r} has no version {reference[:80]!r}; ready: {there}")

    def references(self) -> Mapping[str, ServedModel]:
        """Every version and label that a URL may name, with its model."""
        models = {one.version: one.model for one in self.ready() if one.model is not None}
        return {label: models[version] for label, version in self.labels.items() if version in models} | models

    def label(self, label: str, version: str) -> None:
        """Point a label at a ready version. Raises MalformedInput or UnknownModel."""
        if not LABEL.fullmatch(label) or label in self.known:
            raise MalformedInput(f"a label begins with a letter and is no version's name; got {label[:80]!r}")
        if label not in self.labels and len(self.labels) >= MOST_LABELS:
            raise MalformedInput(f"model {self.name!r} has {MOST_LABELS} labels; remove one")
        self.labels[label] = self.find(version).version

    def forget(self, version: str) -> None:
        """Remove every label and choice that names a version."""
        self.labels = {label: target for label, target in self.labels.items() if target != version}
        self.chosen = None if self.chosen == version else self.chosen
        self.previous = None if self.previous == version else self.previous

    def rows(self) -> list[Version]:
        """Every version once, from the lowest to the highest."""
        rows = {**self.known, **{key: one for key, one in self.loading.items() if not self._is_ready(key)}}
        return sorted(rows.values(), key=lambda one: version_key(one.version))

    def in_memory(self) -> bool:
        """Whether any version is loaded, or still being closed."""
        return any(one.model is not None for one in self.known.values())

    def prune(self) -> None:
        """Forget the oldest versions that are not in memory, beyond those that are remembered."""
        gone = [key for key, one in self.known.items() if one.model is None and one.state is State.UNAVAILABLE]
        for key in gone[: max(len(gone) - REMEMBERED, 0)]:
            del self.known[key]

    def recall(self, gone: Iterable[Version]) -> None:
        """Remember these versions, and no others, as not in memory."""
        self.known = {key: one for key, one in self.known.items() if one.state is not State.UNAVAILABLE}
        for one in gone:
            self.known.setdefault(one.version, one)

    def _is_ready(self, version: str) -> bool:
        return version in self.known and self.known[version].state is State.READY
