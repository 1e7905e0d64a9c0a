"""The endpoint between caller and container: what may pass, which model is meant, and what an answer becomes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from . import headers as passing
from .call import Answer, NoAnswer, OpenAnswer, call, opened
from .hosting import Hosting
from .limits import Limits
from .refusal import Refusal, invalid, model_error
from .targets import Targets

Sent = Sequence[tuple[str, str]]
PLAIN, STREAM, ASYNC = "InvokeEndpoint", "InvokeEndpointWithResponseStream", "InvokeEndpointAsync"
VARIANT = "AllTraffic"


class Endpoint:
    """One endpoint with one variant. ``targets``: the models of a multi-model endpoint."""

    def __init__(self, name: str, hosting: Hosting, targets: Targets | None = None) -> None:
        self.name = name
        self._hosting = hosting
        self._targets = targets
        most = hosting.plan.limits.concurrent
        self._turns = threading.BoundedSemaphore(most) if most is not None else None

    @property
    def limits(self) -> Limits:
        return self._hosting.plan.limits

    def require(self, name: str) -> None:
        """Raises Refusal when this endpoint has another name."""
        if name != self.name:
            raise invalid(f"Endpoint {name} not found; the one that is served here is {self.name}")

    def invoke(self, sent: Sent, body: bytes, api: str = PLAIN, within_s: float | None = None) -> Answer:
        """The container's answer with the headers that the caller gets. Raises Refusal for everything but 2xx.

        ``within_s``: how long it may take, if not as long as a real-time request.
        """
        given = passing.to_container(sent, api)
        limit_s = self.limits.response_s if within_s is None else within_s
        send = self._sender(given, body, limit_s)
        with self._turn():
            answer = self._route(given, send)
        if not answer.ok:
            raise model_error(answer.status, answer.body, self.name)
        return Answer(answer.status, passing.to_caller(answer.headers, VARIANT), answer.body)

    @contextmanager
    def stream(self, sent: Sent, body: bytes) -> Iterator[tuple[Mapping[str, str], OpenAnswer]]:
        """The caller's headers, and the answer that is still to be read. Raises Refusal as long as nothing was sent."""
        given = passing.to_container(sent, STREAM)
        if given.get(passing.SESSION) == "NEW_SESSION":
            raise invalid("a session cannot be opened by InvokeEndpointWithResponseStream; use InvokeEndpoint")
        if self._targets is not None or passing.TARGET_MODEL in given:
            raise invalid("InvokeEndpointWithResponseStream knows no TargetModel; use InvokeEndpoint")
        with ExitStack() as stack:
            stack.enter_context(self._turn())
            try:
                answer = stack.enter_context(
                    opened(self._hosting.address, "POST", "/invocations", given, body, self.limits.stream_s)
                )
                said = b"" if 200 <= answer.status < 300 else b"".join(answer.pieces())
            except NoAnswer as error:
                raise model_error(0, str(error), self.name) from error
            if not 200 <= answer.status < 300:
                raise model_error(answer.status, said, self.name)
            yield passing.to_caller(answer.headers, VARIANT), answer

    def _sender(self, given: Mapping[str, str], body: bytes, within_s: float) -> Callable[[str], Answer]:
        def send(path: str) -> Answer:
            try:
                return call(self._hosting.address, "POST", path, given, body, within_s=within_s)
            except NoAnswer as error:
                raise model_error(0, str(error), self.name) from error

        return send

    def _route(self, given: Mapping[str, str], send: Callable[[str], Answer]) -> Answer:
        variant, target = given.get(passing.TARGET_VARIANT, VARIANT), given.get(passing.TARGET_MODEL)
        if variant != VARIANT:
            raise invalid(f"Variant {variant} not found; this endpoint has {VARIANT}")
        if self._targets is None:
            if target is not None:
                raise invalid("TargetModel is for multi-model endpoints; this one serves a single model")
            return send("/invocations")
        if target is None:
            raise invalid("a multi-model endpoint needs TargetModel: the relative path of a model.tar.gz")
        return self._targets.invoke(target, send)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._turns is None:
            yield
            return
        if not self._turns.acquire(blocking=False):
            raise Refusal("ThrottlingException", f"Rate exceeded: MaxConcurrency is {self.limits.concurrent}")
        try:
            yield
        finally:
            self._turns.release()
