"""Scripts of the TensorFlow container: ``handler(data, context)``, or ``input_handler`` and ``output_handler``.

In that container TensorFlow Serving runs the model between the two. Here the ONNX model beside the script runs instead,
and ``context.rest_uri`` is None.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import orjson

from ..errors import BrokenArtifact, MalformedInput, ModelFailed
from ..tensors import Array
from .call import Call, ScriptResponse
from .context import Context
from .default_input import with_bytes
from .default_output import to_json
from .media_types import JSON
from .onnx_model import OnnxModel
from .responses import fill_failure, fill_response
from .script_functions import ARGUMENTS, Function, ModelInfo

WHOLE, BEFORE, AFTER = "handler", "input_handler", "output_handler"


class TensorFlowContext(Context):
    """The context of these handlers. ``rest_uri``, ``grpc_port`` and ``channel`` are None."""

    method = "predict"
    rest_uri = grpc_port = channel = None

    def __init__(self, info: ModelInfo, call: Call) -> None:
        super().__init__(info.name, info.properties(), (call,))
        self.model_version = "1"
        self.request_content_type = call.content_type
        self.accept_header = call.accept
        self.content_length = len(call.body)


class ModelResponse:
    """The first argument of ``output_handler``: the attributes of an HTTP response that such handlers read."""

    status_code = 200

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.headers = {"Content-Type": JSON}

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return orjson.loads(self.content)


def is_tensorflow_script(module: ModuleType) -> bool:
    """Whether a module defines these handlers, and no script functions."""
    if any(callable(getattr(module, name, None)) for name in ARGUMENTS):
        return False
    return any(inspect.isfunction(getattr(module, name, None)) for name in (WHOLE, BEFORE, AFTER))


def needs_model(module: ModuleType) -> bool:
    """Whether a model runs between ``input_handler`` and ``output_handler``."""
    return not inspect.isfunction(getattr(module, WHOLE, None))


class TensorFlowHandler:
    """Such a script, loaded."""

    most_calls = 1

    def __init__(self, module: ModuleType, info: ModelInfo, onnx_model: OnnxModel | None) -> None:
        """Raises BrokenArtifact if a handler or the model is missing, or if a handler takes wrong arguments."""
        self._info = info
        self._onnx_model = onnx_model
        self._whole = _function(module, WHOLE)
        self._before, self._after = _function(module, BEFORE), _function(module, AFTER)
        if self._whole is not None:
            return
        if self._before is None or self._after is None:
            missing = AFTER if self._after is None else BEFORE
            raise BrokenArtifact(f"the script defines no {missing}; define it, or one {WHOLE} instead of both")
        if onnx_model is None:
            raise BrokenArtifact(f"{BEFORE} and {AFTER} need a model; put an ONNX model beside the script")

    def run(self, calls: Sequence[Call]) -> list[ScriptResponse]:
        """One response for each call. A failure becomes that call's response."""
        return [self._one(call) for call in calls]

    def _one(self, call: Call) -> ScriptResponse:
        response, context = ScriptResponse(), TensorFlowContext(self._info, call)
        step = WHOLE if self._whole is not None else BEFORE
        try:
            data = io.BytesIO(call.body)
            if self._whole is not None:
                result = self._whole(data, context, context=None)
            else:
                assert self._before is not None
                assert self._after is not None
                asked = self._before(data, context, context=None)
                step = "the model"
                reply = ModelResponse(self._asked(asked))
                step = AFTER
                result = self._after(reply, context, context=None)
            fill_response(result, response, call, context, step)
        except BaseException as error:  # noqa: BLE001 - every call gets a response, after sys.exit too
            fill_failure(response, error, step, call)
        return response

    def _asked(self, question: Any) -> bytes:
        """Run the model on TensorFlow Serving's JSON, with rows (``instances``) or columns (``inputs``).

        Raises MalformedInput for other JSON, ModelFailed if ``input_handler`` returned no text, or the model's error.
        """
        assert self._onnx_model is not None
        if not isinstance(question, (str, bytes, bytearray)):
            raise ModelFailed(f"{BEFORE} must return JSON as str or bytes, it returned {type(question).__name__}")
        try:
            document = with_bytes(orjson.loads(question))
        except orjson.JSONDecodeError as error:
            raise MalformedInput(f"the result of {BEFORE} is not JSON: {error}") from error
        if not isinstance(document, dict) or ("instances" in document) == ("inputs" in document):
            raise MalformedInput(f'the result of {BEFORE} must be an object with "instances" or "inputs"')
        if "inputs" in document:
            return to_json({"outputs": self._onnx_model.predict(document["inputs"])}, bytes_as_base64=True)
        predictions = _rows(self._onnx_model.predict(_columns(document["instances"])))
        return to_json({"predictions": predictions}, bytes_as_base64=True)


def _function(module: ModuleType, name: str) -> Callable[..., Any] | None:
    found = getattr(module, name, None)
    return Function(name, found, 2) if inspect.isfunction(found) else None


def _columns(instances: Any) -> Any:
    """Rows as model inputs: objects by input name become one list for each name."""
    if not (isinstance(instances, list) and instances and all(isinstance(row, dict) for row in instances)):
        return instances
    if any(row.keys() != instances[0].keys() for row in instances):
        raise MalformedInput("all instances need the same names")
    return {name: [row[name] for row in instances] for name in instances[0]}


def _rows(outputs: Array | dict[str, Array]) -> Any:
    if not isinstance(outputs, dict):
        return outputs
    return [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
