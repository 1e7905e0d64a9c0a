"""Callers: the users of a closed loop, each of which sends when its last response has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Callers:
    """``users`` callers for ``duration_s`` seconds."""

    users: int
    duration_s: float

    def share(self, part: int, parts: int) -> Callers:
        """The callers of one of ``parts`` processes; the first processes take the remainder."""
        return Callers(self.users // parts + (part < self.users % parts), self.duration_s)
