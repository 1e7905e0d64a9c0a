"""The objects of asynchronous invocation: ``s3://bucket/key`` as a file below a folder, ``file://`` as a path."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from .api_error import invalid


class ObjectStore:
    """Reads and writes objects; a bucket is a folder below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def path(self, address: str) -> Path:
        """The file of an object. Raises ApiError for an address outside of its bucket or of another scheme."""
        parts = urlsplit(address)
        if parts.scheme == "file" and parts.netloc in ("", "localhost"):
            return Path(unquote(parts.path))
        if parts.scheme != "s3" or not parts.netloc:
            raise invalid(f"{address}: give s3://bucket/key, a file below {self.root}, or file:///path")
        found = (self.root / parts.netloc / address.removeprefix(f"s3://{parts.netloc}").lstrip("/")).resolve()
        if not found.is_relative_to(self.root / parts.netloc):
            raise invalid(f"{address} leads out of its bucket")
        return found

    def read(self, address: str) -> bytes:
        """The content of an object. Raises ApiError when it cannot be read."""
        found = self.path(address)
        try:
            return found.read_bytes()
        except OSError as error:
            raise invalid(f"{address}: {found} cannot be read: {error.strerror}") from error

    def write(self, address: str, content: bytes) -> None:
        """Write an object atomically."""
        write(self.path(address), content)


def write(target: Path, content: bytes) -> None:
    """Write a file atomically, so that a reader never sees a part of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(content)
    partial.rename(target)
