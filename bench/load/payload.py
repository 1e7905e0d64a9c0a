"""The payload: the body of a request and its content type."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import Unusable

JSON = "application/json"
CONTENT_TYPES = {
    ".json": JSON,
    ".jsonl": "application/jsonlines",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".npy": "application/x-npy",
    ".npz": "application/x-npz",
    ".recordio": "application/x-recordio-protobuf",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
}
OTHER = "application/octet-stream"
# Printable ASCII: another character could end the header and begin a second one.
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Payload:
    """A request body. ``sha256`` is hexadecimal and names the body in results; ``name`` is the file it came from.

    ``headers``: further headers that a body of this kind needs.
    """

    name: str
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = field(default=())

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


def read(path: Path, content_type: str | None = None) -> Payload:
    """The file's bytes, unchanged; the content type from its suffix unless given. Raises Unusable."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise Unusable(f"cannot read the payload {str(path)!r}: {error.strerror or error}") from error
    if not body:
        raise Unusable(f"the payload {str(path)!r} is empty")
    kind = content_type if content_type is not None else CONTENT_TYPES.get(path.suffix.lower(), OTHER)
    if not _HEADER_VALUE.fullmatch(kind):
        raise Unusable(f"the content type {kind!r} is not allowed in a header: use printable ASCII")
    return Payload(path.name, kind, body)
