"""One request of ``invoke``: its body, its target model, and what comes back."""

from __future__ import annotations

from ...local.attributes import PREFIX, TARGET_MODEL
from ...local.call import NoResponse
from ...local.store import ObjectStore
from .. import request
from ..errors import DeployError, NotThere
from ..order import Order
from . import state
from .state import Folder


def send(order: Order, folder: Folder) -> str:
    """The response as text, or where that of an asynchronous request will be. Raises DeployError."""
    wanted, report = state.read(folder.wanted), state.read(folder.report)
    if not state.running(folder) or not report.get("url"):
        raise NotThere(f"{order.description.name} is not running: run up")
    model = state.model_of(folder.release(report["release"]))
    if order.target_model is not None:
        model /= order.target_model.removesuffix(".tar.gz")
    body, content_type = request.body_of(order, model)
    headers = {"content-type": content_type}
    if order.target_model is not None:
        headers[TARGET_MODEL] = order.target_model
    path = "invocations"
    if wanted.get("asynchronous"):
        path, headers = "async-invocations", {PREFIX + "content-type": content_type}
    try:
        response = request.send(report["url"], f"/endpoints/{order.description.name}/{path}", headers, body)
    except NoResponse as error:
        raise DeployError(f"{order.description.name} does not answer: {error}; read logs") from error
    location = response.headers.get((PREFIX + "OutputLocation").lower())
    if location is None:
        return response.text
    return f"accepted; the result will be {location}, the file {ObjectStore(folder.objects).path(location)}"
