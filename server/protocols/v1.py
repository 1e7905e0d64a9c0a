"""The V1 protocol of KServe and TensorFlow Serving over HTTP: list, status, metadata and predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from ..codecs import Codec
from ..codecs.cloud_events import CloudEvents, is_event
from ..codecs.v1 import SIGNATURE, V1Json
from ..content_encoding import is_compressed
from ..errors import MalformedInput, SlipwayError, UnknownModel
from ..lifecycle import Lifecycle, Phase
from ..models import Models, ServedModel
from ..models.versions import State, Version
from ..observe.metrics import Metrics
from ..request import Head, InferRequest
from ..tensors import TensorSpec
from . import JSON, Handler, Responder, Route
from .compression import Expander
from .failure import refuse
from .inference import infer, require_tensors
from .listing import send_listing

TAG = "V1"
ROOT = "/v1/models/{name}"
WAYS = (ROOT, ROOT + "/versions/{version}", ROOT + "/labels/{label}")
"""A model by its name, by one of its versions, and by one of its labels."""

PREDICT_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"example": {"instances": [[0.0, 1.0]]}}},
}
STATES = {
    State.LOADING: "LOADING",
    State.READY: "AVAILABLE",
    State.UNLOADING: "UNLOADING",
    State.UNAVAILABLE: "END",
}
DTYPES = {
    "BOOL": "DT_BOOL",
    "UINT8": "DT_UINT8",
    "UINT16": "DT_UINT16",
    "UINT32": "DT_UINT32",
    "UINT64": "DT_UINT64",
    "INT8": "DT_INT8",
    "INT16": "DT_INT16",
    "INT32": "DT_INT32",
    "INT64": "DT_INT64",
    "FP16": "DT_HALF",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    "BF16": "DT_BFLOAT16",
    "BYTES": "DT_STRING",
}
REFUSED = {
    "classify": "classify takes tf.Example features, which this model does not have; send the tensors to :predict",
    "regress": "regress takes tf.Example features, which this model does not have; send the tensors to :predict",
    "explain": "no explainer is served beside this model; send the tensors to :predict",
}


class V1:
    """The routes under ``/v1/models``, and ``/``, by which KServe's V1 clients see that the server is alive."""

    def __init__(
        self,
        models: Models,
        lifecycle: Lifecycle,
        metrics: Metrics,
        expander: Expander,
        *,
        lists: bool = True,
        front: Callable[[Handler], Handler] | None = None,
    ) -> None:
        """``lists``: whether any client may see the names of all models. ``front``: makes the handler of ``/`` of the
        one that says alive; None: that one."""
        self._root = alive if front is None else front(alive)
        self._models = models
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._expander = expander
        self._lists = lists
        self.codec: Codec = V1Json()
        self.events: Codec = CloudEvents(V1Json())

    def routes(self) -> list[Route]:
        get, post = ("GET",), ("POST",)
        routes = [Route("/", get, lambda _: self._root, "Whether the server is alive, for KServe's V1 clients", TAG)]
        if self._lists:
            routes.append(Route("/v1/models", get, lambda _: self.index, "The names of all models", TAG))
        for root in WAYS:
            routes += [
                Route(root, get, self._status, "State of the versions of a model", TAG),
                Route(root + "/metadata", get, self._metadata, "The signature of a model", TAG),
                Route(
                    root + ":predict",
                    post,
                    self._predict,
                    "Run a model on rows or columns",
                    TAG,
                    description="`instances` (rows) give `predictions`, `inputs` (columns) give `outputs`.",
                    request_body=PREDICT_BODY,
                ),
                *(
                    Route(
                        f"{root}:{verb}",
                        post,
                        self._refusing(text),
                        f"Refused: {verb}",
                        TAG,
                        request_body=PREDICT_BODY,
                        hot=False,
                    )
                    for verb, text in REFUSED.items()
                ),
            ]
        return routes

    def index(self, head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG002 - the handler's signature
        names = (one.name for one in self._models.known() if one.current() is not None)
        send_listing(names, lambda found: orjson.dumps({"models": found}), head, responder)

    def _find(self, path: dict[str, str], head: Head) -> ServedModel:
        """The model that a URL names. Raises UnknownModel."""
        name, version, label = path["name"], path.get("version"), path.get("label")
        if label is not None:
            if label not in self._models.of(name).labels:
                raise UnknownModel(f"model {name[:80]!r} has no label {label[:80]!r}")
            return self._models.get(name, label)
        return self._models.ask(name, head) if version is None else self._models.get(name, version)

    def _predict(self, path: dict[str, str]) -> Handler:
        def handle(head: Head, body: bytes, responder: Responder) -> InferRequest | None:
            encoding, codec = None, self.codec
            for name, value in head.headers:
                if name == b"content-encoding":
                    encoding = value
                elif is_event(name, value):
                    codec = self.events
            if encoding is not None and is_compressed(encoding):
                self._expander.pass_on(handle, head, body, encoding, responder)
                return None
            try:
                model = self._find(path, head)
                require_tensors(model)
            except SlipwayError as error:
                self._refuse(error, head, responder)
                return None
            return infer(model, head, body, responder, codec, codec)

        return handle

    def _status(self, path: dict[str, str]) -> Handler:
        def handle(head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG001 - the handler's signature
            try:
                rows = self._rows(path)
            except SlipwayError as error:
                self._refuse(error, head, responder)
                return
            models = [one.model for one in rows if one.state is State.READY and one.model is not None]
            ready = self._lifecycle.phase is Phase.READY and any(not one.scheduler.stalled for one in models)
            document = {"name": path["name"], "ready": ready, "model_version_status": [_state(one) for one in rows]}
            responder.send(200 if ready else 503, JSON, orjson.dumps(document))

        return handle

    def _rows(self, path: dict[str, str]) -> list[Version]:
        """The versions that a URL names, the highest first. Raises UnknownModel."""
        versions = self._models.of(path["name"])
        rows = versions.rows()[::-1]
        if "label" in path:
            target = versions.labels.get(path["label"])
            rows = [one for one in rows if one.version == target]
        elif "version" in path:
            wanted = versions.labels.get(path["version"], path["version"])
            rows = [one for one in rows if one.version == wanted]
        if not rows:
            asked = path.get("label") or path.get("version") or ""
            raise UnknownModel(f"model {path['name'][:80]!r} has no version or label {asked[:80]!r}")
        return rows

    def _metadata(self, path: dict[str, str]) -> Handler:
        def handle(head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG001 - the handler's signature
            try:
                model = self._find(path, head)
            except SlipwayError as error:
                self._refuse(error, head, responder)
                return
            responder.send(200, JSON, orjson.dumps(describe(model)))

        return handle

    def _refusing(self, text: str) -> Callable[[dict[str, str]], Handler]:
        def bind(path: dict[str, str]) -> Handler:
            def handle(head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG001 - the handler's signature
                error: SlipwayError
                try:
                    self._find(path, head)
                    error = MalformedInput(text)
                except SlipwayError as unknown:
                    error = unknown
                self._refuse(error, head, responder)

            return handle

        return bind

    def _refuse(self, error: SlipwayError, head: Head, responder: Responder) -> None:
        refuse(error, self._lifecycle, self._metrics, head, responder)


def alive(head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG001 - the handler's signature
    responder.send(200, JSON, b'{"status":"alive"}')


def describe(model: ServedModel) -> dict[str, Any]:
    """TensorFlow Serving's metadata document of a model: its one signature."""
    signature = {
        "inputs": {one.name: _tensor(one) for one in model.spec.inputs},
        "outputs": {one.name: _tensor(one) for one in model.spec.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": model.version},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    sizes = [{"size": str(size), "name": ""} for size in spec.shape]
    return {
        "name": spec.name,
        "dtype": DTYPES[spec.dtype.name],
        "tensor_shape": {"dim": sizes, "unknown_rank": False},
    }


def _state(one: Version) -> dict[str, Any]:
    """One version in TensorFlow Serving's words. The reason of a failure may quote paths, and stays in the log."""
    failed = one.state is State.UNAVAILABLE and not one.loaded_ns
    status = {"error_code": "OK", "error_message": ""}
    if failed:
        status = {"error_code": "INTERNAL", "error_message": "the version could not be loaded; the log says why"}
    return {"version": one.version, "state": STATES[one.state], "status": status}
