"""The toolkit's transformer: a script's functions, with a framework handler's as defaults."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from server import VERSION
from server.scripts.call import Call, ScriptResponse
from server.scripts.media_types import accepted, media_of
from server.scripts.script_functions import ARGUMENTS, ModelInfo, ScriptFunctions
from server.scripts.script_module import script_in_folder

from .default_inference_handler import DefaultInferenceHandler


class Transformer:
    """``initialize`` once, ``transform`` for each request."""

    def __init__(self, default_inference_handler: Any = None) -> None:
        self._default = default_inference_handler or DefaultInferenceHandler()
        self._functions: ScriptFunctions | None = None

    def validate_and_initialize(self, model_dir: str, context: Any = None) -> None:
        """Load the user's script, if the model has one, and the model."""
        if self._functions is not None:
            return
        module = ModuleType("defaults")
        for name in ARGUMENTS:
            default = getattr(self._default, f"default_{name}", None)
            if default is not None:
                setattr(module, name, default)
        path = script_in_folder(Path(model_dir), "inference.py")
        if path is not None:
            _take_over(module, _module(path))
        name = getattr(context, "model_name", "model")
        self._functions = ScriptFunctions(module, ModelInfo(name, model_dir, VERSION), None)

    def transform(self, data: Any, context: Any) -> list[Any]:
        """The response body, in a list of one, as the multi-model server expects it."""
        assert self._functions is not None
        body = data[0].get("body") or b""
        headers = context.get_all_request_header(0)
        content_type, charset = media_of((headers.get("content-type") or "").encode("latin-1"), "")
        accept = accepted((headers.get("accept") or "").encode("latin-1"), "application/json")
        pairs = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
        call = Call(
            body.encode() if isinstance(body, str) else bytes(body),
            *(content_type, accept, pairs, context.get_request_id(0) or "", charset),
        )
        return [_delivered(self._functions.run([call])[0], context)]


def _delivered(response: ScriptResponse, context: Any) -> bytes:
    if response.error is not None:
        raise response.error
    context.set_response_status(response.status)
    context.set_response_content_type(0, response.content_type)
    for key, value in response.headers:
        context.set_response_header(0, key.decode("latin-1"), value.decode("latin-1"))
    return response.body


def _take_over(module: ModuleType, own: ModuleType) -> None:
    for name in ARGUMENTS:
        if hasattr(own, name):
            setattr(module, name, getattr(own, name))
    if hasattr(own, "transform_fn"):
        for name in ("input_fn", "predict_fn", "output_fn"):
            if not hasattr(own, name) and hasattr(module, name):
                delattr(module, name)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"slipway_user_{abs(hash(path))}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
