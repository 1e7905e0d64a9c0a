"""Pruning: parts of a torch network taken out, and the rest trained again by a function of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import BadInput

Kind = Literal["structured", "magnitude"]

KINDS: dict[str, Kind] = {"structured": "structured", "magnitude": "magnitude"}

LEAST_SHARE, MOST_SHARE = 0.01, 0.95


@dataclass(frozen=True, slots=True)
class Cut:
    """``share`` of the channels of each layer (structured), or of all weights together (magnitude), is taken out."""

    kind: Kind
    share: float

    @property
    def name(self) -> str:
        """What its candidates are called."""
        return f"{'pruned' if self.kind == 'structured' else 'sparse'}_{round(100 * self.share)}"


def parse(text: str) -> tuple[Cut, ...]:
    """``0.3,magnitude:0.5``: shares, of channels where nothing else is said. Raises BadInput."""
    cuts: dict[str, Cut] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        before, colon, after = part.partition(":")
        kind, number = (before, after) if colon else ("structured", part)
        try:
            cut = Cut(KINDS[kind], float(number))
        except (KeyError, ValueError) as error:
            raise BadInput(
                f"--prune {part!r}: write the share to take out, as 0.3 or magnitude:0.5; kinds are {', '.join(KINDS)}"
            ) from error
        if not LEAST_SHARE <= cut.share <= MOST_SHARE:
            raise BadInput(f"--prune {part!r}: a share from {LEAST_SHARE} to {MOST_SHARE}")
        cuts[cut.name] = cut
    return tuple(cuts.values())
