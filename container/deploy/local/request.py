"""One request of ``invoke``: its body, its target model, and what comes back."""

from __future__ import annotations

from urllib.parse import urlsplit

from ...local import sample
from ...local.attributes import PREFIX, TARGET_MODEL
from ...local.call import Address, NoResponse, call
from ...local.store import ObjectStore
from ..errors import DeployError, InvalidDescription, NotThere
from ..order import Order
from . import state
from .state import Folder

RESPONSE_S, ACCEPT_S = 60.0, 5.0


def send(order: Order, folder: Folder) -> str:
    """The response as text, or where that of an asynchronous request will be. Raises DeployError."""
    if not state.running(folder):
        raise NotThere(f"{order.description.name} is not running: run up")
    wanted = state.read(folder.wanted)
    body, content_type = _body(order, folder)
    headers = {"content-type": content_type}
    if order.target_model is not None:
        headers[TARGET_MODEL] = order.target_model
    path = "invocations"
    if wanted.get("asynchronous"):
        path, headers = "async-invocations", {PREFIX + "content-type": content_type}
    where = urlsplit(state.read(folder.report)["url"])
    assert where.hostname is not None
    assert where.port is not None
    address = Address(where.hostname, where.port, ACCEPT_S)
    url = f"/endpoints/{order.description.name}/{path}"
    try:
        response = call(address, "POST", url, headers, body, within_s=RESPONSE_S)
    except NoResponse as error:
        raise DeployError(f"{order.description.name} does not answer: {error}; read logs") from error
    if not response.ok:
        raise DeployError(f"{response.status}: {response.text[:1_000]}")
    location = response.headers.get((PREFIX + "OutputLocation").lower())
    if location is None:
        return response.text
    return f"accepted; the result will be {location}, the file {ObjectStore(folder.objects).path(location)}"


def _body(order: Order, folder: Folder) -> tuple[bytes, str]:
    """The body that is given, or the artifact's own sample."""
    if order.body is not None:
        try:
            return order.body.read_bytes(), order.content_type
        except OSError as error:
            raise InvalidDescription(f"--body {order.body}: {error.strerror}") from error
    model = state.model_of(folder.release(state.read(folder.report)["release"]))
    if order.target_model is not None:
        model /= order.target_model.removesuffix(".tar.gz")
    stored = sample.stored(model)
    if stored is None:
        raise InvalidDescription("there is no request: pass --body FILE, or deploy an artifact with a stored sample")
    return stored.body, stored.content_type
