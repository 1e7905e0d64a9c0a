"""The target: the server and path that requests go to."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, quote, urlsplit

from ..errors import Unusable

DEFAULT_PATH = "/invocations"


@dataclass(frozen=True, slots=True)
class Target:
    """An HTTP/1.1 server and a path on it. ``path`` includes the query; ``port`` is always explicit."""

    url: str
    host: str
    port: int
    tls: bool
    path: str

    @property
    def authority(self) -> str:
        """The value of the ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def root(self) -> str:
        """The server without a path, for its health, metadata and metrics routes."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @property
    def model(self) -> str | None:
        """The model that an Open Inference path names; None for ``/invocations``, which names none."""
        parts = self.path.split("?")[0].split("/")
        return parts[3] if parts[1:3] == ["v2", "models"] and len(parts) > 3 and parts[3] else None

    def tls_context(self) -> ssl.SSLContext | None:
        return ssl.create_default_context() if self.tls else None


def of_model(target: Target, model: str) -> Target:
    """The Open Inference path of a model on the same server."""
    path = f"/v2/models/{quote(model)}/infer"
    return replace(target, url=target.root + path, path=path)


def parse(url: str) -> Target:
    """A URL, or ``host:port`` for short; a bare server gets ``/invocations``. Raises Unusable."""
    if not url.isascii() or any(sign <= " " or sign in '"\\<>\x7f' for sign in url):
        raise Unusable(f"the URL {url!r} has characters that must be percent-encoded")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        return _from_parts(parts)
    except ValueError as error:
        raise Unusable(f"cannot read the URL {url!r}: {error}") from error


def _from_parts(parts: SplitResult) -> Target:
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"the scheme must be http or https, not {parts.scheme!r}")
    if not parts.hostname:
        raise ValueError("it has no host name")
    if parts.username or parts.password:
        raise ValueError("a user name or password in it is not supported")
    tls = parts.scheme == "https"
    path = parts.path if parts.path not in ("", "/") else DEFAULT_PATH
    query = f"?{parts.query}" if parts.query else ""
    target = Target("", parts.hostname, parts.port or (443 if tls else 80), tls, path + query)
    return Target(target.root + target.path, target.host, target.port, tls, target.path)
