"""The memory that text takes while it is read, computed from the text before anything is made of it.

A body of 30 MB can hold ten million empty lists, which take a gigabyte. The parsers do not stop at a limit, and the
JSON parser does not survive the end of memory.
"""

from __future__ import annotations

from ..errors import BodyTooLarge

SMALL_BYTES = 1_000_000
"""Text up to this size is not looked at."""

TIMES, LEAST_BYTES = 16, 32_000_000
"""Text may take as many times its size, or that of ``LEAST_BYTES`` if it is smaller."""

NUMBER_BYTES, STRING_BYTES, LIST_BYTES, OBJECT_BYTES = 40, 58, 72, 140
"""Memory of a value with its reference (CPython 3.11 to 3.13)."""


def check_json(text: bytes | memoryview) -> None:
    """Raises BodyTooLarge for a JSON text that takes too much memory. Brackets inside strings count as well."""
    if len(text) <= SMALL_BYTES:
        return
    raw = bytes(text)
    _check(
        len(raw),
        raw.count(b",") * NUMBER_BYTES
        + raw.count(b"[") * LIST_BYTES
        + raw.count(b"{") * OBJECT_BYTES
        + raw.count(b'"') // 2 * STRING_BYTES,
    )


def check_csv(text: str) -> None:
    """Raises BodyTooLarge for comma-separated values that take too much memory."""
    if len(text) > SMALL_BYTES:
        lines = text.count("\n") + text.count("\r")
        _check(len(text), (text.count(",") + lines) * STRING_BYTES + lines * LIST_BYTES)


def _check(size: int, needed_bytes: int) -> None:
    limit_bytes = TIMES * max(size, LEAST_BYTES)
    if needed_bytes > limit_bytes:
        raise BodyTooLarge(
            f"reading this body needs about {needed_bytes / 1e6:.0f} MB, more than {limit_bytes / 1e6:.0f} MB; send "
            "fewer values at a time"
        )
