"""The request of ``invoke``: its body, and over HTTP its response."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..local import sample
from ..local.call import Address, ContainerResponse, call
from .errors import DeployError, InvalidDescription
from .order import Order

RESPONSE_S, ACCEPT_S = 60.0, 5.0


def body_of(order: Order, model: Path | None) -> tuple[bytes, str]:
    """The body that is given, or the stored sample of a model folder, and its type. Raises InvalidDescription."""
    if order.body is not None:
        try:
            return order.body.read_bytes(), order.content_type
        except OSError as error:
            raise InvalidDescription(f"--body {order.body}: {error.strerror}") from error
    stored = sample.stored(model) if model is not None else None
    if stored is None:
        raise InvalidDescription("there is no request: pass --body FILE, or an artifact with a stored sample")
    return stored.body, stored.content_type


def send(url: str, path: str, headers: Mapping[str, str], body: bytes) -> ContainerResponse:
    """The response to a POST. Raises NoResponse, and DeployError for a response other than 2xx."""
    response = call(Address.of(url, ACCEPT_S), "POST", path, headers, body, within_s=RESPONSE_S)
    if not response.ok:
        raise DeployError(f"{response.status}: {response.text[:1_000]}")
    return response
