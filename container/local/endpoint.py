"""The endpoint between caller and container: checks requests, selects the target model, maps responses and errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from . import attributes
from . import headers as passing
from .api_error import ApiError, invalid, model_error
from .call import ContainerResponse, NoResponse, OpenResponse, call, opened
from .headers import PLAIN, STREAM
from .hosting import Hosting
from .limits import PlatformLimits
from .targets import TargetModels

Headers = Sequence[tuple[str, str]]
VARIANT = "AllTraffic"


class Endpoint:
    """One endpoint with one variant. ``targets``: the target models of a multi-model endpoint."""

    def __init__(self, name: str, hosting: Hosting, targets: TargetModels | None = None) -> None:
        self.name = name
        self._hosting = hosting
        self._targets = targets
        most = hosting.plan.limits.concurrent
        self._slots = threading.BoundedSemaphore(most) if most is not None else None

    @property
    def limits(self) -> PlatformLimits:
        return self._hosting.plan.limits

    def require(self, name: str) -> None:
        """Raises ApiError when ``name`` is not the name of this endpoint."""
        if name != self.name:
            raise invalid(f"Endpoint {name} not found; this one is {self.name}")

    def invoke(self, sent: Headers, body: bytes, api: str = PLAIN, within_s: float | None = None) -> ContainerResponse:
        """The container's response with the headers that the caller gets. Raises ApiError for all but 2xx.

        ``within_s``: the deadline in seconds, if not that of a real-time request.
        """
        given = passing.to_container(sent, api)
        limit_s = self.limits.response_s if within_s is None else within_s
        send = self._sender(given, body, limit_s)
        with self._slot():
            response = self._route(given, send)
        if not response.ok:
            raise model_error(response.status, response.body, self.name)
        return ContainerResponse(response.status, self._to_caller(response), response.body)

    @contextmanager
    def stream(self, sent: Headers, body: bytes) -> Iterator[tuple[Mapping[str, str], OpenResponse]]:
        """The caller's headers, and the response with its body unread. Raises ApiError before the first chunk."""
        given = passing.to_container(sent, STREAM)
        self._check_target(given)
        if self._targets is not None:
            raise invalid("InvokeEndpointWithResponseStream takes no TargetModel; use InvokeEndpoint")
        with ExitStack() as stack:
            stack.enter_context(self._slot())
            try:
                response = stack.enter_context(
                    opened(self._hosting.address, "POST", "/invocations", given, body, self.limits.stream_s)
                )
                body_of_error = b"" if 200 <= response.status < 300 else b"".join(response.chunks())
            except NoResponse as error:
                raise model_error(0, str(error), self.name) from error
            if not 200 <= response.status < 300:
                raise model_error(response.status, body_of_error, self.name)
            yield self._to_caller(response), response

    def _to_caller(self, response: ContainerResponse | OpenResponse) -> dict[str, str]:
        passed = passing.to_caller(response.headers, VARIANT)
        reason = attributes.problem(passed, attributes.RESPONSE)
        if reason is not None:
            raise model_error(response.status, f"a header of the response is invalid: {reason}", self.name)
        return passed

    def _sender(self, given: Mapping[str, str], body: bytes, within_s: float) -> Callable[[str], ContainerResponse]:
        def send(path: str) -> ContainerResponse:
            try:
                return call(self._hosting.address, "POST", path, given, body, within_s=within_s)
            except NoResponse as error:
                raise model_error(0, str(error), self.name) from error

        return send

    def _route(self, given: Mapping[str, str], send: Callable[[str], ContainerResponse]) -> ContainerResponse:
        self._check_target(given)
        target = given.get(attributes.TARGET_MODEL)
        if self._targets is None:
            if target is not None:
                raise invalid("TargetModel is for multi-model endpoints; this one serves a single model")
            return send("/invocations")
        if target is None:
            raise invalid("a multi-model endpoint needs TargetModel: the relative path of a model.tar.gz")
        return self._targets.invoke(target, send)

    def _check_target(self, given: Mapping[str, str]) -> None:
        variant = given.get(attributes.TARGET_VARIANT, VARIANT)
        if variant != VARIANT:
            raise invalid(f"Variant {variant} not found; this endpoint has {VARIANT}")
        if attributes.TARGET_CONTAINER in given:
            raise invalid("TargetContainerHostname is for multi-container endpoints; this one has a single container")
        if attributes.INFERENCE_COMPONENT in given:
            raise invalid("InferenceComponentName is for endpoints with inference components; this one has none")

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if self._slots is None:
            yield
            return
        if not self._slots.acquire(blocking=False):
            raise ApiError("ThrottlingException", f"Rate exceeded: MaxConcurrency is {self.limits.concurrent}")
        try:
            yield
        finally:
            self._slots.release()
