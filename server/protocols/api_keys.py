"""API keys: which requests carry a key that the server knows. Health routes are open.

The file holds one key a line; empty lines and lines that begin with ``#`` are skipped. Keys are compared as SHA-256
digests, all of them for every request, in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from ..errors import BadSetting, Unauthorized
from ..observe.metrics import Metrics
from ..request import Head
from . import Handler
from .dashboard.files import FILES
from .failure import checked

OPEN = frozenset(("/", "/ping", "/v2/health/live", "/v2/health/ready", *FILES))
"""The routes that need no key: load balancers and orchestrators ask them, and the dashboard's page asks for a key."""

MOST_KEYS = 1_000
LONGEST_KEY = 512
LARGEST_FILE_BYTES = 1_000_000
BEARER = b"bearer "


class ApiKeys:
    """The keys of one file. :meth:`read` may be called again while requests are checked."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        """Raises BadSetting if the file cannot be used."""
        self._path = path
        self._metrics = metrics
        self._digests: tuple[bytes, ...] = ()
        self.read()

    def read(self) -> None:
        """Read the file. Raises BadSetting, and the keys stay as they are, if it cannot be used."""
        self._digests = tuple(_digest(key) for key in _keys(self._path))

    def check(self, head: Head) -> None:
        """Raises Unauthorized without a key in ``Authorization: Bearer`` or ``X-API-Key``."""
        self.check_fields(head.get(b"authorization"), head.get(b"x-api-key"))

    def check_fields(self, authorization: bytes | None, api_key: bytes | None) -> None:
        """As :meth:`check`, for the two fields, of which either may hold the key."""
        given = [api_key] if api_key else []
        if authorization is not None and authorization[: len(BEARER)].lower() == BEARER:
            given.append(authorization[len(BEARER) :])
        if not any(self._knows(key.strip()) for key in given):
            self._metrics.refused[Unauthorized.code] += 1
            what = "the API key is not known" if given else "the request has no API key"
            raise Unauthorized(f"{what}; send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")

    def around(self, handler: Handler) -> Handler:
        """A handler that checks each request before ``handler`` gets it."""
        return checked(handler, self.check)

    def _knows(self, key: bytes) -> bool:
        digest, found = _digest(key), False
        for one in self._digests:
            found |= hmac.compare_digest(one, digest)
        return found


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _keys(path: Path) -> list[bytes]:
    """The keys of a file. Raises BadSetting, which never quotes a key."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise BadSetting(f"cannot read --api-keys-file {path}: {error.strerror}") from error
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        key = line.strip()
        if not key or key.startswith(b"#"):
            continue
        if len(key) > LONGEST_KEY or not all(0x21 <= byte <= 0x7E for byte in key):
            raise BadSetting(
                f"--api-keys-file {path}: line {number} is no key; a key is 1 to {LONGEST_KEY} visible ASCII characters"
            )
        keys.append(key)
    if not 0 < len(keys) <= MOST_KEYS:
        raise BadSetting(f"--api-keys-file {path} has {len(keys)} keys; it needs 1 to {MOST_KEYS}, one a line")
    return keys
