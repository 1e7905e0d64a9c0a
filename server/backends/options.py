"""The options of a backend, read by name and type; a misspelt option is refused with the nearest known one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BrokenArtifact
from ..wiring import STEP_KEYS, refuse_unknown


class Options:
    """The options of one step. A backend reads each option, then calls :meth:`finish`."""

    def __init__(self, given: Mapping[str, Any], backend: str) -> None:
        self._given = given
        self._backend = backend
        self._known: list[str] = []

    def whole(self, name: str, default: int, least: int = 1) -> int:
        """A whole number. Raises BrokenArtifact for a wrong value, as all readers here do."""
        value = self._take(name, default)
        if type(value) is not int or value < least:
            raise self._wrong(name, f"a whole number, {least} or more", value)
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self._take(name, default)
        if type(value) is not bool:
            raise self._wrong(name, "true or false", value)
        return value

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        """One of the allowed words; the first is the default."""
        value = self._take(name, allowed[0])
        if value not in allowed:
            raise self._wrong(name, f"one of {', '.join(allowed)}", value)
        return str(value)

    def numbers(self, name: str, default: Sequence[float], count: int) -> tuple[float, ...]:
        """``count`` finite numbers, or one number for all of them."""
        value = self._take(name, list(default))
        values = value if isinstance(value, list) else [value] * count
        if len(values) != count or not all(type(one) in (int, float) and math.isfinite(one) for one in values):
            raise self._wrong(name, f"{count} numbers, or one for all", value)
        return tuple(float(one) for one in values)

    def texts(self, name: str) -> list[str]:
        value = self._take(name, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self._wrong(name, "a list of texts", value)
        return value

    def finish(self) -> None:
        """Raises BrokenArtifact for an option that the backend has not read."""
        refuse_unknown(self._given, [*self._known, *STEP_KEYS], f"the options of {self._backend!r}")

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        return self._given.get(name, default)

    def _wrong(self, name: str, what: str, value: Any) -> BrokenArtifact:
        return BrokenArtifact(f"the option {name!r} of {self._backend!r} must be {what}, got {repr(value)[:80]}")
