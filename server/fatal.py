"""The fatal cause: one line that says why nothing is served, in the same words from the server and from its doctor."""

from __future__ import annotations

from .errors import SlipwayError

MARK = "cannot serve: "


def cause(error: BaseException) -> str:
    """What ended the start, in one line. Ours are written for people; of all others the kind is part of the news."""
    said = " ".join(str(error).split())
    if isinstance(error, SlipwayError):
        return said
    if isinstance(error, SystemExit):
        return f"the model's code ended the process (sys.exit({said}))"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def line(error: BaseException) -> str:
    """The whole line."""
    return MARK + cause(error)


def found_in(log: str) -> str | None:
    """The cause that the last such line of a log names, or None."""
    _, mark, rest = log.rpartition(MARK)
    return rest.splitlines()[0].strip() if mark and rest else None
