"""Names of models and versions: the rules that hold wherever a name enters, and text that is safe to show."""

from __future__ import annotations

from ..errors import MalformedInput

LONGEST_NAME = 255
"""Characters of a model's name: as many as a file system allows for a folder. Multi-model endpoints use hashes."""

LONGEST_VERSION = 255
"""Characters of a version's name."""


def check_name(name: str, what: str = "a model's name", longest: int = LONGEST_NAME) -> str:
    """The name. Raises MalformedInput unless it is printable text whose parts between slashes are not '.' or '..'."""
    if not 0 < len(name) <= longest:
        raise MalformedInput(f"{what} must have 1 to {longest} printable characters, this one has {len(name)}")
    if not name.isprintable():  # control characters, NUL and lone surrogates are not
        raise MalformedInput(f"{what} must be printable text, got {ascii(name)[:80]}")
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise MalformedInput(f"{what} must not be a path with empty parts, '.' or '..', got {name[:80]!r}")
    return name


def check_version(version: str) -> str:
    """The version's name. Raises MalformedInput as :func:`check_name` does, and for a slash."""
    check_name(version, "a version's name", LONGEST_VERSION)
    if "/" in version:
        raise MalformedInput(f"a version's name must not contain '/', got {version[:80]!r}")
    return version


def is_valid(name: str, version: str = "1") -> bool:
    """Whether both names follow the rules."""
    try:
        check_name(name)
        check_version(version)
    except MalformedInput:
        return False
    return True


def shown(text: str) -> str:
    """Text that can be written as UTF-8; lone surrogates, which paths may hold, are replaced."""
    return text.encode(errors="replace").decode()
