"""Class handlers of the multi-model server: ``initialize(context)`` at load, ``handle(data, context)`` for each run."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Generator, Sequence
from types import ModuleType
from typing import Any

from ..errors import BrokenArtifact, ModelFailed, SlipwayError
from .call import Call, ScriptResponse
from .chunks import Chunks
from .context import Context
from .default_output import to_json
from .responses import BODILESS, fill_failure, first_chunk
from .script_functions import ModelInfo

log = logging.getLogger("slipway.scripts")

Handle = Callable[[Any, Any], Any]


def find_handler(module: ModuleType, attribute: str = "", named_by: str = "--script-handler") -> Any:
    """The class handler of a module: the named attribute, a function ``handle``, or the one class with ``initialize``
    and ``handle`` that the module defines itself. None if there is none. ``named_by``: what names the attribute.

    Raises BrokenArtifact if the named attribute is missing or no handler, or if there are several classes.
    """
    if attribute:
        found = getattr(module, attribute, None)
        if found is None:
            raise BrokenArtifact(f"{module.__name__.rpartition('.')[2]} has no {attribute!r}, which {named_by} names")
        if not callable(found) or (inspect.isclass(found) and not _is_handler(found)):
            raise BrokenArtifact(f"{attribute!r}, which {named_by} names, has no initialize and handle")
        return found
    if callable(getattr(module, "handle", None)):
        return module.handle
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__ and _is_handler(value)
    ]
    if len(classes) > 1:
        names = ", ".join(one.__name__ for one in classes)
        raise BrokenArtifact(
            f"the script has several classes with initialize and handle ({names}): name one: {named_by}"
        )
    return classes[0] if classes else None


def _is_handler(found: type) -> bool:
    return callable(getattr(found, "initialize", None)) and callable(getattr(found, "handle", None))


class ClassHandler:
    """A class handler, or a function ``handle(data, context)``, with its model loaded."""

    def __init__(self, found: Any, info: ModelInfo) -> None:
        """Create and initialize the handler. Raises BrokenArtifact if that fails."""
        self._info = info
        context = info.context()
        try:
            if inspect.isclass(found):
                instance: Any = found()
                instance.initialize(context)
                self._handle: Handle = instance.handle
            else:
                self._handle = found
                found(None, context)  # the multi-model server's sign to load the model
        except SlipwayError:
            raise
        except BaseException as error:
            log.error("initializing the class handler failed", exc_info=error)
            reason = " ".join(str(error).split())[:300]
            raise BrokenArtifact(f"the handler cannot be initialized: {type(error).__name__}: {reason}") from error

    @property
    def most_calls(self) -> int:
        """The most calls that may share a run: ``--max-batch-size``, else one."""
        return self._info.batch_size or 1

    def run(self, calls: Sequence[Call]) -> list[ScriptResponse]:
        """One response for each call. A failure of several calls together is raised; the executor runs them apart."""
        context = self._info.context(calls)
        try:
            results = self._handle([self._info.input(call) for call in calls], context)
            return self._runner(results, calls, context)
        except BaseException as error:
            if len(calls) > 1:
                raise
            response = ScriptResponse()
            fill_failure(response, error, "handle", calls[0])
            return [response]

    def _runner(self, results: Any, calls: Sequence[Call], context: Context) -> list[ScriptResponse]:
        if isinstance(results, Generator) and len(calls) == 1:
            results = [results]  # a handle that yields the chunks of its one response
        if not isinstance(results, (list, tuple)) or len(results) != len(calls):
            count = f"{len(results)} results" if isinstance(results, (list, tuple)) else type(results).__name__
            raise ModelFailed(f"handle must return a list of one result for each request ({len(calls)}), not {count}")
        responses = []
        for index, (result, call) in enumerate(zip(results, calls, strict=True)):
            chunks: Chunks | None = None
            if isinstance(result, Generator):
                body, chunks, written = first_chunk(Chunks(result, "handle", call.request_id), call.accept)
            else:
                body, written = _written(result, call)
            status, content_type, headers = context.request_processor[index].outcome()
            if status in BODILESS:
                chunks = None
            responses.append(ScriptResponse(body, content_type or written, status, headers, chunks=chunks))
        return responses


def _written(result: Any, call: Call) -> tuple[bytes, str]:
    """The body of a result, and its content type unless the handler sets another one."""
    if isinstance(result, str):
        return result.encode(), call.accept
    if isinstance(result, (bytes, bytearray, memoryview)):
        return bytes(result), call.accept
    return to_json(result), "application/json"
