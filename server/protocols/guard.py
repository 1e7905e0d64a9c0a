"""The guard of the routes that change models: who may call them, by Host, Origin and token.

A browser lets any web page send requests to this machine. It names the page's origin, and a page cannot read or set the
token. A name that resolves to a loopback address (DNS rebinding) is found by the Host field.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import secrets
from functools import partial

from ..errors import Forbidden, Unauthorized
from ..request import Head
from ..settings import sagemaker
from ..settings.options import Settings
from ..settings.reader import environment
from . import Handler
from .failure import checked

log = logging.getLogger("slipway.guard")

SAME_SITE = (b"same-origin", b"none")
"""Values of Sec-Fetch-Site of requests that no other page has sent."""

BROWSER = (b"origin", b"referer", b"sec-fetch-site", b"sec-fetch-mode")
"""Fields that browsers send with a request of a page and that a page cannot remove."""


class Guard:
    """Checks requests before they reach a handler."""

    def __init__(self, *, local: bool = False, token: str = "") -> None:
        """``local``: the Host field must name this machine. ``token``: browsers must send it in Authorization; empty:
        no token is asked for.

        Other clients of this machine need no token: Triton's clients load and unload models without one, and a local
        program that means harm could read the log.
        """
        self._local = local
        self._token = token.encode()

    @property
    def asks_browsers(self) -> bool:
        """Whether a browser must send a token."""
        return bool(self._token)

    def check(self, head: Head, *, reads: bool = False) -> None:
        """Raises Forbidden for another host or another page's origin, and Unauthorized without the token.

        ``reads``: the route lists names and states and changes nothing; it needs no token.
        """
        host = head.get(b"host") or b""
        if self._local and not is_loopback(host_name(host.decode("latin-1"))):
            raise Forbidden("these routes are served to this machine only; address it as localhost or 127.0.0.1")
        origin = head.get(b"origin")
        if origin is not None and origin.lower() not in (b"http://" + host.lower(), b"https://" + host.lower()):
            raise Forbidden("the request comes from a web page of another origin")
        if (head.get(b"sec-fetch-site") or b"none") not in SAME_SITE:
            raise Forbidden("the request comes from a web page of another site")
        if self._token and not reads and _from_browser(head):
            given = head.get(b"authorization") or b""
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                raise Unauthorized(
                    "send 'Authorization: Bearer TOKEN' with the token that the server logged at start, or start the "
                    "server with --admin"
                )

    def around(self, handler: Handler, *, reads: bool = False) -> Handler:
        """A handler that checks each request, as :meth:`check` does, before ``handler`` gets it."""
        return checked(handler, partial(self.check, reads=reads))


def _from_browser(head: Head) -> bool:
    return any(head.get(field) is not None for field in BROWSER)


def admin_guard(settings: Settings, token: str = "", said: bool = True) -> Guard | None:
    """The guard of the admin routes; None where they are not served. Logs the token, and a warning for other hosts.

    ``token``: that of all processes of this server; empty: a new one. ``said``: whether this process logs.
    """
    local = is_loopback(settings.host)
    if settings.admin:
        if not local and said:
            log.warning(
                "admin routes are open to every client of host=%s; use --no-admin, or a firewall", settings.host
            )
        return Guard()
    if settings.admin is None and local:
        token = token or new_token()
        if said:
            log.info(
                "admin routes are open to this machine token=%s; a browser must send it as "
                "'Authorization: Bearer TOKEN'",
                token,
            )
        return Guard(local=True, token=token)
    return None


def platform_guard(settings: Settings) -> Guard:
    """The guard of the multi-model routes: on the platform only the platform reaches them."""
    if sagemaker.is_platform(environment()):
        return Guard()
    if not is_loopback(settings.host):
        log.warning("multi-model routes are open to every client of host=%s; use a firewall", settings.host)
    return Guard(local=is_loopback(settings.host))


def new_token() -> str:
    """A random token."""
    return secrets.token_urlsafe(24)


def host_name(host: str) -> str:
    """The name or address in a Host field, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def is_loopback(name: str) -> bool:
    """Whether a name or an address is this machine's own, by its form; nothing is resolved."""
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
