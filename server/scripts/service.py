"""The class handlers of the multi-model server: ``initialize(context)`` once, ``handle(data, context)`` each run."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Generator, Sequence
from types import ModuleType
from typing import Any

import orjson

from ..errors import BrokenArtifact, ModelFailed, SlipwayError
from .call import Answer, Call
from .context import Context
from .failures import BODILESS, failed, opened
from .functions import Surroundings
from .pieces import Pieces

log = logging.getLogger("slipway.handlers")

Handle = Callable[[Any, Any], Any]


def entry(module: ModuleType, attribute: str = "") -> Any:
    """What of a module is a service: the named attribute, a function ``handle``, or the one class that has
    ``initialize`` and ``handle`` and is not only imported there. None when there is no such thing.

    Raises BrokenArtifact when the named attribute is not there, or there are several classes.
    """
    if attribute:
        found = getattr(module, attribute, None)
        if found is None:
            raise BrokenArtifact(
                f"{module.__name__.rpartition('.')[2]} has no {attribute!r}, which --script-handler names"
            )
        return found
    if callable(getattr(module, "handle", None)):
        return module.handle
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and callable(getattr(value, "initialize", None))
        and callable(getattr(value, "handle", None))
    ]
    if len(classes) > 1:
        names = ", ".join(one.__name__ for one in classes)
        raise BrokenArtifact(
            f"the script has several classes with initialize and handle ({names}): name one: --script-handler"
        )
    return classes[0] if classes else None


class Service:
    """A class handler, or a function ``handle(data, context)``, made ready."""

    def __init__(self, found: Any, surroundings: Surroundings) -> None:
        """Make and initialize it. Raises BrokenArtifact when that fails."""
        self._surroundings = surroundings
        context = surroundings.context()
        try:
            if inspect.isclass(found):
                instance: Any = found()
                instance.initialize(context)
                self._handle: Handle = instance.handle
            else:
                self._handle = found
                found(None, context)  # how the multi-model server tells a function to load its model
        except SlipwayError:
            raise
        except BaseException as error:
            log.error("the handler cannot be initialized", exc_info=error)
            reason = " ".join(str(error).split())[:300]
            raise BrokenArtifact(f"the handler cannot be initialized: {type(error).__name__}: {reason}") from error

    @property
    def most_calls(self) -> int:
        """The most calls that may share a run: one, unless somebody said otherwise. The handler may rely on it."""
        return self._surroundings.batch_size or 1

    def answer(self, calls: Sequence[Call]) -> list[Answer]:
        """One answer for each call. What fails on several together is raised, so that they are tried apart."""
        context = self._surroundings.context(calls)
        try:
            results = self._handle([{"body": call.body} for call in calls], context)
            return self._answers(results, calls, context)
        except BaseException as error:
            if len(calls) > 1:
                raise
            answer = Answer()
            failed(answer, error, "handle", calls[0])
            return [answer]

    def _answers(self, results: Any, calls: Sequence[Call], context: Context) -> list[Answer]:
        if isinstance(results, Generator) and len(calls) == 1:
            results = [results]  # a handle that yields: the pieces of its one answer
        if not isinstance(results, (list, tuple)) or len(results) != len(calls):
            count = f"{len(results)} results" if isinstance(results, (list, tuple)) else type(results).__name__
            raise ModelFailed(f"handle must return a list of one result for each request ({len(calls)}), not {count}")
        answers = []
        for index, (result, call) in enumerate(zip(results, calls, strict=True)):
            pieces: Pieces | None = None
            if isinstance(result, Generator):
                body, pieces, written = opened(Pieces(result, "handle", call.request_id), call.accept)
            else:
                body, written = _written(result, call)
            status, content_type, headers = context.request_processor[index].outcome()
            if status in BODILESS:
                pieces = None
            answers.append(Answer(body, content_type or written, status, headers, pieces=pieces))
        return answers


def _written(result: Any, call: Call) -> tuple[bytes, str]:
    """A result as a body and the type that it has if the handler sets none."""
    if isinstance(result, str):
        return result.encode(), call.accept
    if isinstance(result, (bytes, bytearray, memoryview)):
        return bytes(result), call.accept
    try:
        return orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS), "application/json"
    except TypeError as error:
        raise ModelFailed(
            f"handle must return str, bytes or what JSON can hold, not {type(result).__name__}"
        ) from error
