"""The fatal cause: the one line, the same from server and doctor, that says why no model can be served."""

from __future__ import annotations

from .errors import SlipwayError

MARK = "cannot serve: "


def cause(error: BaseException) -> str:
    """The error that ended the start, in one line; with its type where it is not one of the server's own errors."""
    said = " ".join(str(error).split())
    if isinstance(error, SlipwayError):
        return said
    if isinstance(error, SystemExit):
        return f"the model's code ended the process (sys.exit({said}))"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def line(error: BaseException) -> str:
    """The complete line: mark and cause."""
    return MARK + cause(error)


def found_in(log: str) -> str | None:
    """The cause in the last such line of a log, or None."""
    _, mark, rest = log.rpartition(MARK)
    return rest.splitlines()[0].strip() if mark and rest else None
