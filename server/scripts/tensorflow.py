"""Scripts of the TensorFlow container: ``handler(data, context)``, or ``input_handler`` and ``output_handler`` around a
model. There the model is asked over HTTP; here it is the ONNX model beside the script, and ``rest_uri`` is None.
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
from . import media
from .call import Answer, Call
from .context import Context
from .failures import answer_of, failed
from .functions import ARGUMENTS, Function, Surroundings
from .network import Network

WHOLE, BEFORE, AFTER = "handler", "input_handler", "output_handler"


class TensorFlowContext(Context):
    """A context with what these handlers read. ``rest_uri``, ``grpc_port`` and ``channel`` are None: there is no server
    of TensorFlow behind this one."""

    method = "predict"
    rest_uri = grpc_port = channel = None

    def __init__(self, surroundings: Surroundings, call: Call) -> None:
        super().__init__(surroundings.name, surroundings.properties(), (call,))
        self.model_version = "1"
        self.request_content_type = call.content_type
        self.accept_header = call.accept
        self.content_length = len(call.body)


class Reply:
    """What ``output_handler`` gets: as much of an HTTP answer as those handlers look at."""

    status_code = 200

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.headers = {"Content-Type": media.JSON}

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return orjson.loads(self.content)


def speaks(module: ModuleType) -> bool:
    """Whether a script is of this kind, and of no other."""
    if any(callable(getattr(module, name, None)) for name in ARGUMENTS):
        return False
    return any(inspect.isfunction(getattr(module, name, None)) for name in (WHOLE, BEFORE, AFTER))


def wants_model(module: ModuleType) -> bool:
    return not inspect.isfunction(getattr(module, WHOLE, None))


class TensorFlow:
    """Such a script, made ready."""

    most_calls = 1

    def __init__(self, module: ModuleType, surroundings: Surroundings, network: Network | None) -> None:
        """Raises BrokenArtifact: one of the two is missing, there is no model between them, or wrong arguments."""
        self._surroundings = surroundings
        self._network = network
        self._whole = _function(module, WHOLE)
        self._before, self._after = _function(module, BEFORE), _function(module, AFTER)
        if self._whole is not None:
            return
        if self._before is None or self._after is None:
            missing = AFTER if self._after is None else BEFORE
            raise BrokenArtifact(f"the script defines no {missing}, and no handler instead of the two")
        if network is None:
            raise BrokenArtifact(f"{BEFORE} and {AFTER} stand around a model, and there is no ONNX model beside them")

    def answer(self, calls: Sequence[Call]) -> list[Answer]:
        """One answer for each call; what fails is that call's answer."""
        return [self._one(call) for call in calls]

    def _one(self, call: Call) -> Answer:
        answer, context = Answer(), TensorFlowContext(self._surroundings, call)
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
                reply = Reply(self._asked(asked))
                step = AFTER
                result = self._after(reply, context, context=None)
            answer_of(result, answer, call, context, step)
        except BaseException as error:  # noqa: BLE001 - whatever a script does, its call gets an answer
            failed(answer, error, step, call)
        return answer

    def _asked(self, question: Any) -> bytes:
        """The model's answer to a question in TensorFlow Serving's JSON: rows (``instances``) or columns (``inputs``).

        Raises MalformedInput, ModelFailed when the handler gave something else, or what the model raises.
        """
        assert self._network is not None
        if not isinstance(question, (str, bytes, bytearray)):
            raise ModelFailed(f"{BEFORE} must return JSON as str or bytes, it returned {type(question).__name__}")
        try:
            document = orjson.loads(question)
        except orjson.JSONDecodeError as error:
            raise MalformedInput(f"what {BEFORE} made of the body is not JSON: {error}") from error
        if not isinstance(document, dict) or ("instances" in document) == ("inputs" in document):
            raise MalformedInput(f'what {BEFORE} made of the body must be an object with "instances" or "inputs"')
        if "inputs" in document:
            return media.to_json({"outputs": self._network.predict(document["inputs"])})
        return media.to_json({"predictions": _rows(self._network.predict(_columns(document["instances"])))})


def _function(module: ModuleType, name: str) -> Callable[..., Any] | None:
    found = getattr(module, name, None)
    return Function(name, found, 2) if inspect.isfunction(found) else None


def _columns(instances: Any) -> Any:
    """Rows as the model takes them: objects by input name become a list for each name."""
    if not (isinstance(instances, list) and instances and all(isinstance(row, dict) for row in instances)):
        return instances
    if any(row.keys() != instances[0].keys() for row in instances):
        raise MalformedInput("all instances need the same names")
    return {name: [row[name] for row in instances] for name in instances[0]}


def _rows(outputs: Array | dict[str, Array]) -> Any:
    if not isinstance(outputs, dict):
        return outputs
    return [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
