"""The functions of a script: which there are, what each is given, and one call after another through them."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from types import ModuleType
from typing import Any

from ..errors import BrokenArtifact, ModelFailed, SlipwayError
from . import media
from .call import Answer, Call
from .context import Context
from .failures import answer_of, failed
from .network import Network

log = logging.getLogger("slipway.handlers")

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
"""The functions and how many arguments each takes; one more is the context."""

MOST_CALLS = 32
"""Calls that share a run of a script that takes several, where nobody said how many."""

STEPS = ("input_fn", "predict_fn", "predict_batch_fn", "output_fn")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a script is told of where it runs. ``batch_size``: the most calls that may share a run; 0: nobody said."""

    name: str
    model_dir: str
    version: str
    batch_size: int = 0

    def properties(self) -> dict[str, Any]:
        """The ``system_properties`` of a context."""
        return {
            "model_dir": self.model_dir,
            "gpu_id": None,
            "batch_size": self.batch_size or 1,
            "server_name": "slipway",
            "server_version": self.version,
        }

    def context(self, calls: Sequence[Call] = ()) -> Context:
        """A context of these calls alone."""
        return Context(self.name, self.properties(), calls)


class Function:
    """One function of a script. ``wants_context``: it takes one argument more than it must."""

    __slots__ = ("_call", "name", "wants_context")

    def __init__(self, name: str, call: Callable[..., Any], arguments: int) -> None:
        """Raises BrokenArtifact when it takes another number of arguments."""
        self.name = name
        self._call = call
        taken = _arguments(call)
        if taken is not None and taken not in (arguments, arguments + 1):
            raise BrokenArtifact(f"{name} takes {taken} arguments; it must take {arguments}, or one more: the context")
        self.wants_context = taken == arguments + 1

    def __call__(self, *arguments: Any, context: Any) -> Any:
        """Raises whatever the script raises."""
        return self._call(*arguments, context) if self.wants_context else self._call(*arguments)


class Functions:
    """A script of the toolkit's functions, with its model loaded."""

    def __init__(self, module: ModuleType, surroundings: Surroundings, network: Network | None) -> None:
        """Load the model. Raises BrokenArtifact: no way to load or to predict, wrong arguments, or a function failed.

        ``network``: the ONNX model beside the script, for what the script leaves out.
        """
        self._surroundings = surroundings
        found = {name: getattr(module, name) for name in ARGUMENTS if callable(getattr(module, name, None))}
        _require_a_way(found, network)
        functions = {name: Function(name, call, ARGUMENTS[name]) for name, call in found.items()}
        context = surroundings.context()
        root = surroundings.model_dir
        if "pre_model_fn" in functions:
            _load(functions["pre_model_fn"], root, context=context)
        self._model = _load(functions["model_fn"], root, context=context) if "model_fn" in functions else network
        if "model_warmup_fn" in functions:
            _load(functions["model_warmup_fn"], root, self._model, context=context)
        self._input = functions.get("input_fn")
        self._output = functions.get("output_fn")
        self._transform = functions.get("transform_fn")
        self._predict = functions.get("predict_fn")
        self._predict_batch = functions.get("predict_batch_fn")
        if not (self._predict or self._predict_batch or self._transform):
            self._predict, self._predict_batch = _default_predict(self._model)
        self._contexts = any(one.wants_context for one in functions.values())

    @property
    def most_calls(self) -> int:
        """The most calls that may share a run."""
        return (self._surroundings.batch_size or MOST_CALLS) if self._predict_batch is not None else 1

    def answer(self, calls: Sequence[Call]) -> list[Answer]:
        """One answer for each call. What fails on one call is that call's answer; only what fails on several together
        is raised, so that they are tried apart."""
        if self._transform is not None:
            return [self._transformed(call) for call in calls]
        answers = [Answer() for _ in calls]
        contexts = [self._surroundings.context((call,)) if self._contexts else None for call in calls]
        decoded = [self._decoded(*row) for row in zip(calls, answers, contexts, strict=True)]
        going = [index for index, answer in enumerate(answers) if answer.pending]
        for index, prediction in zip(going, self._predicted(calls, decoded, answers, contexts, going), strict=True):
            if answers[index].pending:
                self._encoded(prediction, calls[index], answers[index], contexts[index])
        return answers

    def _decoded(self, call: Call, answer: Answer, context: Context | None) -> Any:
        begun_ns = perf_counter_ns()
        try:
            body = media.text_of(call.body, call.content_type, call.charset)
            if self._input is None:
                return media.decode(body, call.content_type)
            return self._input(body, call.content_type, context=context)
        except BaseException as error:  # noqa: BLE001 - whatever a script does, sys.exit too, its call gets an answer
            failed(answer, error, "input_fn", call)
        finally:
            answer.decode_ns = perf_counter_ns() - begun_ns
        return None

    def _predicted(
        self,
        calls: Sequence[Call],
        decoded: list[Any],
        answers: list[Answer],
        contexts: list[Context | None],
        going: list[int],
    ) -> list[Any]:
        if not going:
            return []
        if self._predict_batch is not None:
            return self._predicted_together(calls, decoded, answers, contexts, going)
        assert self._predict is not None
        predictions = []
        for index in going:
            prediction = None
            try:
                prediction = self._predict(decoded[index], self._model, context=contexts[index])
            except BaseException as error:  # noqa: BLE001
                failed(answers[index], error, "predict_fn", calls[index])
            predictions.append(prediction)
        return predictions

    def _predicted_together(
        self,
        calls: Sequence[Call],
        decoded: list[Any],
        answers: list[Answer],
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
                raise ModelFailed(f"predict_batch_fn was given {len(going)} inputs and returned {len(predictions)}")
        except BaseException as error:
            if len(calls) > 1:
                raise
            failed(answers[going[0]], error, "predict_batch_fn", calls[going[0]])
            return [None]
        return list(predictions)

    def _encoded(self, prediction: Any, call: Call, answer: Answer, context: Context | None) -> None:
        begun_ns = perf_counter_ns()
        try:
            if self._output is not None:
                answer_of(self._output(prediction, call.accept, context=context), answer, call, context, "output_fn")
            elif isinstance(prediction, Generator):
                answer_of(prediction, answer, call, context, "predict_fn")
            else:
                answer_of(media.encode(prediction, call.accept), answer, call, context, "output_fn")
        except BaseException as error:  # noqa: BLE001
            failed(answer, error, "output_fn", call)
        finally:
            answer.encode_ns = perf_counter_ns() - begun_ns

    def _transformed(self, call: Call) -> Answer:
        assert self._transform is not None
        answer = Answer()
        context = self._surroundings.context((call,)) if self._contexts else None
        try:
            body = media.text_of(call.body, call.content_type, call.charset)
            result = self._transform(self._model, body, call.content_type, call.accept, context=context)
            answer_of(result, answer, call, context, "transform_fn")
        except BaseException as error:  # noqa: BLE001
            failed(answer, error, "transform_fn", call)
        return answer


def _arguments(call: Callable[..., Any]) -> int | None:
    """How many arguments a function takes, defaults included; None where it takes any number, or does not say."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return None
    return sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in parameters)


def _require_a_way(found: dict[str, Any], network: Network | None) -> None:
    if "transform_fn" in found and any(name in found for name in STEPS):
        both = next(name for name in STEPS if name in found)
        raise BrokenArtifact(f"the script defines transform_fn and {both}: transform_fn replaces the others")
    if not found:
        raise BrokenArtifact(
            f"the script defines none of {', '.join(ARGUMENTS)}, and no class with initialize and handle"
        )
    if "model_fn" not in found and network is None:
        raise BrokenArtifact("the script defines no model_fn, and there is no ONNX model beside it")


def _load(function: Function, *arguments: Any, context: Context) -> Any:
    try:
        return function(*arguments, context=context)
    except SlipwayError:
        raise
    except BaseException as error:
        log.error("%s failed", function.name, exc_info=error)
        reason = " ".join(str(error).split())[:300]
        raise BrokenArtifact(f"{function.name} failed: {type(error).__name__}: {reason}") from error


def _default_predict(model: Any) -> tuple[Function | None, Function | None]:
    """For a script without one: the network's, else the model's own ``predict``, else the model itself."""
    if isinstance(model, Network):
        return None, Function("predict_batch_fn", _predict_network, 2)
    own = getattr(model, "predict", None)
    if not callable(own) and not callable(model):
        raise BrokenArtifact("the script defines no predict_fn, and its model has no predict and cannot be called")
    call = own if callable(own) else model
    return Function("predict_fn", lambda data, _model: call(data), 2), None


def _predict_network(inputs: list[Any], network: Any) -> list[Any]:
    return network.predict_all(inputs)  # type: ignore[no-any-return]
