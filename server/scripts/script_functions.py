"""Script functions (``model_fn``, ``input_fn``, ``predict_fn``, ``output_fn``, ...): their arguments and calls."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from types import ModuleType
from typing import Any

from ..errors import BrokenArtifact, ModelFailed, SlipwayError
from . import default_input, default_output, framework_defaults
from .call import Call, ScriptResponse
from .context import Context
from .framework_defaults import Defaults
from .media_types import text_of
from .model_archive import ArchiveManifest, inputs_of
from .onnx_model import OnnxModel
from .responses import fill_failure, fill_response

log = logging.getLogger("slipway.scripts")

ARGUMENTS = {
    "pre_model_fn": 1,
    "model_fn": 1,
    "model_warmup_fn": 2,
    "input_fn": 2,
    "predict_fn": 2,
    "predict_batch_fn": 2,
    "output_fn": 2,
    "transform_fn": 4,
}
"""The functions and their numbers of arguments; a function with one more argument gets the context."""

DEFAULT_BATCH_SIZE = 32
"""Calls that share a run of ``predict_batch_fn`` without ``--max-batch-size``."""

STEPS = ("input_fn", "predict_fn", "predict_batch_fn", "output_fn")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The facts about its model that a script can read. ``batch_size``: most calls in one run, 0 if it is not set.
    ``gpu_id``: the ordinal of its GPU, None on the CPU. ``archive``: the manifest of its model archive, and ``config``
    the content of its ``model-config.yaml``; None for other scripts."""

    name: str
    model_dir: str
    version: str
    batch_size: int = 0
    gpu_id: int | None = None
    archive: ArchiveManifest | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def properties(self) -> dict[str, Any]:
        """The ``system_properties`` of a context."""
        return {
            "model_dir": self.model_dir,
            "gpu_id": self.gpu_id,
            "batch_size": self.batch_size or 1,
            "server_name": "slipway",
            "server_version": self.version,
        }

    def context(self, calls: Sequence[Call] = ()) -> Context:
        """A new context of these calls."""
        context = Context(self.name, self.properties(), calls)
        if self.archive is not None:
            context.manifest, context.model_yaml_config = dict(self.archive.whole), dict(self.config)
        return context

    def input(self, call: Call) -> dict[str, Any]:
        """A request as a class handler gets it. Raises MalformedInput."""
        return {"body": call.body} if self.archive is None else inputs_of(call)


class Function:
    """One function of a script. ``wants_context`` is True if it takes one argument more than required."""

    __slots__ = ("_call", "name", "wants_context")

    def __init__(self, name: str, call: Callable[..., Any], arguments: int) -> None:
        """Raises BrokenArtifact for a wrong number of arguments."""
        self.name = name
        self._call = call
        taken = _arguments(call)
        if taken is not None and taken not in (arguments, arguments + 1):
            raise BrokenArtifact(f"{name} takes {taken} arguments; it must take {arguments}, or one more: the context")
        self.wants_context = taken == arguments + 1

    def __call__(self, *arguments: Any, context: Any) -> Any:
        """Call the function. Raises whatever the script raises."""
        return self._call(*arguments, context) if self.wants_context else self._call(*arguments)


class ScriptFunctions:
    """A script that defines script functions, with its model loaded."""

    def __init__(self, module: ModuleType, info: ModelInfo, onnx_model: OnnxModel | None) -> None:
        """Load the model. ``onnx_model`` is the ONNX model beside the script, the default of ``model_fn``.

        Raises BrokenArtifact if functions are missing, take wrong arguments, or fail while they load the model.
        """
        self._info = info
        found = {name: getattr(module, name) for name in ARGUMENTS if callable(getattr(module, name, None))}
        _check_functions(found, onnx_model)
        functions = {name: Function(name, call, ARGUMENTS[name]) for name, call in found.items()}
        context = info.context()
        root = info.model_dir
        if "pre_model_fn" in functions:
            _load(functions["pre_model_fn"], root, context=context)
        self._model = _load(functions["model_fn"], root, context=context) if "model_fn" in functions else onnx_model
        if "model_warmup_fn" in functions:
            _load(functions["model_warmup_fn"], root, self._model, context=context)
        onnx = isinstance(self._model, OnnxModel)
        self._defaults = (
            Defaults(default_input.decode, None) if onnx else framework_defaults.defaults_of(self._model, module)
        )
        self._input = functions.get("input_fn")
        self._output = functions.get("output_fn")
        self._transform = functions.get("transform_fn")
        self._predict = functions.get("predict_fn")
        self._predict_batch = functions.get("predict_batch_fn")
        if not (self._predict or self._predict_batch or self._transform):
            if onnx:
                self._predict_batch = Function("predict_batch_fn", _predict_onnx, 2)
            else:
                self._predict = Function("predict_fn", framework_defaults.require_predict(self._defaults), 2)
                framework_defaults.prepare(self._model)
        self._contexts = any(one.wants_context for one in functions.values())

    @property
    def most_calls(self) -> int:
        """The most calls that may share a run."""
        return (self._info.batch_size or DEFAULT_BATCH_SIZE) if self._predict_batch is not None else 1

    def run(self, calls: Sequence[Call]) -> list[ScriptResponse]:
        """One response for each call. A failure of one call becomes its response. A failure of several calls together
        is raised: the executor then runs them apart."""
        if self._transform is not None:
            return [self._transformed(call) for call in calls]
        responses = [ScriptResponse() for _ in calls]
        contexts = [self._info.context((call,)) if self._contexts else None for call in calls]
        decoded = [self._decoded(*row) for row in zip(calls, responses, contexts, strict=True)]
        going = [index for index, response in enumerate(responses) if response.pending]
        for index, prediction in zip(going, self._predicted(calls, decoded, responses, contexts, going), strict=True):
            if responses[index].pending:
                self._encoded(prediction, calls[index], responses[index], contexts[index])
        return responses

    def _decoded(self, call: Call, response: ScriptResponse, context: Context | None) -> Any:
        begun_ns = perf_counter_ns()
        try:
            body = text_of(call.body, call.content_type, call.charset)
            if self._input is None:
                return self._defaults.decode(body, call.content_type)
            return self._input(body, call.content_type, context=context)
        except BaseException as error:  # noqa: BLE001 - every call gets a response, after sys.exit too
            fill_failure(response, error, "input_fn", call)
        finally:
            response.decode_ns = perf_counter_ns() - begun_ns
        return None

    def _predicted(
        self,
        calls: Sequence[Call],
        decoded: list[Any],
        responses: list[ScriptResponse],
        contexts: list[Context | None],
        going: list[int],
    ) -> list[Any]:
        if not going:
            return []
        if self._predict_batch is not None:
            return self._predicted_together(calls, decoded, responses, contexts, going)
        assert self._predict is not None
        predictions = []
        for index in going:
            prediction = None
            try:
                prediction = self._predict(decoded[index], self._model, context=contexts[index])
            except BaseException as error:  # noqa: BLE001
                fill_failure(responses[index], error, "predict_fn", calls[index])
            predictions.append(prediction)
        return predictions

    def _predicted_together(
        self,
        calls: Sequence[Call],
        decoded: list[Any],
        responses: list[ScriptResponse],
        contexts: list[Context | None],
        going: list[int],
    ) -> list[Any]:
        assert self._predict_batch is not None
        given: Any = [contexts[index] for index in going]
        try:
            predictions = self._predict_batch([decoded[index] for index in going], self._model, context=given)
            if not isinstance(predictions, (list, tuple)) and not hasattr(predictions, "shape"):
                raise ModelFailed(f"predict_batch_fn must return a list, it returned {type(predictions).__name__}")
            if len(predictions) != len(going):
                raise ModelFailed(
                    f"predict_batch_fn got {len(going)} inputs and returned {len(predictions)} predictions; "
                    "return one for each input"
                )
        except BaseException as error:
            if len(calls) > 1:
                raise
            fill_failure(responses[going[0]], error, "predict_batch_fn", calls[going[0]])
            return [None]
        return list(predictions)

    def _encoded(self, prediction: Any, call: Call, response: ScriptResponse, context: Context | None) -> None:
        begun_ns = perf_counter_ns()
        try:
            if self._output is not None:
                fill_response(
                    self._output(prediction, call.accept, context=context), response, call, context, "output_fn"
                )
            elif isinstance(prediction, Generator):
                fill_response(prediction, response, call, context, "predict_fn")
            else:
                fill_response(default_output.encode(prediction, call.accept), response, call, context, "output_fn")
        except BaseException as error:  # noqa: BLE001
            fill_failure(response, error, "output_fn", call)
        finally:
            response.encode_ns = perf_counter_ns() - begun_ns

    def _transformed(self, call: Call) -> ScriptResponse:
        assert self._transform is not None
        response = ScriptResponse()
        context = self._info.context((call,)) if self._contexts else None
        try:
            body = text_of(call.body, call.content_type, call.charset)
            result = self._transform(self._model, body, call.content_type, call.accept, context=context)
            fill_response(result, response, call, context, "transform_fn")
        except BaseException as error:  # noqa: BLE001
            fill_failure(response, error, "transform_fn", call)
        return response


def _arguments(call: Callable[..., Any]) -> int | None:
    """The number of arguments, optional ones included; None if the function takes any number or has no signature."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return None
    return sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in parameters)


def _check_functions(found: dict[str, Any], onnx_model: OnnxModel | None) -> None:
    if "transform_fn" in found and any(name in found for name in STEPS):
        both = next(name for name in STEPS if name in found)
        raise BrokenArtifact(f"the script defines transform_fn and {both}: transform_fn replaces the others")
    if not found:
        raise BrokenArtifact(
            f"the script defines none of {', '.join(ARGUMENTS)}, and no class with initialize and handle"
        )
    if "model_fn" not in found and onnx_model is None:
        raise BrokenArtifact("the script defines no model_fn, and there is no ONNX model beside it")


def _load(function: Function, *arguments: Any, context: Context) -> Any:
    try:
        return function(*arguments, context=context)
    except SlipwayError:
        raise
    except BaseException as error:
        log.error("loading the script failed function=%s", function.name, exc_info=error)
        reason = " ".join(str(error).split())[:300]
        raise BrokenArtifact(f"{function.name} failed: {type(error).__name__}: {reason}") from error


def _predict_onnx(inputs: list[Any], onnx_model: Any) -> list[Any]:
    return onnx_model.predict_all(inputs)  # type: ignore[no-any-return]
