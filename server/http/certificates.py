"""The certificate and key of TLS, which may be renewed while the server runs."""

from __future__ import annotations

import ssl
from pathlib import Path

from ..errors import BadSetting


class Certificates:
    """The contexts are used for every handshake: those after :meth:`read` present the new certificate."""

    def __init__(self, certificate: Path, key: Path | None = None) -> None:
        """``key``: None if the certificate's file holds it. Raises BadSetting if the files cannot be used."""
        self._certificate = certificate
        self._key = key
        self._contexts: list[ssl.SSLContext] = []
        self._load(_context())

    @property
    def paths(self) -> list[Path]:
        return [self._certificate, *([self._key] if self._key is not None else [])]

    def context(self, protocol: str) -> ssl.SSLContext:
        """A new context for connections of this protocol (ALPN, RFC 7301)."""
        context = _context()
        context.set_alpn_protocols([protocol])
        self._load(context)
        self._contexts.append(context)
        return context

    def read(self) -> None:
        """Read both files. Raises BadSetting, and the contexts stay as they are, if they cannot be used together."""
        self._load(_context())  # a context whose key does not fit its certificate is of no use any more
        for one in self._contexts:
            self._load(one)

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._certificate, self._key, password=lambda: b"")  # else it asks the terminal
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            files = " and ".join(str(path) for path in self.paths)
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            raise BadSetting(
                f"--tls-cert and --tls-key cannot be used ({files}): {reason}; they must be a certificate chain and "
                "its key without a password, both in PEM"
            ) from error


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
