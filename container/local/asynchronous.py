"""Asynchronous invocation: 202 at once, then the request runs, and its result or failure becomes an object."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .api_error import ApiError, invalid
from .attributes import FILENAME, INFERENCE_ID, INPUT_LOCATION, OUTPUT_EXTENSION, PREFIX, REQUEST, problem
from .endpoint import Endpoint, Headers
from .headers import ASYNC
from .limits import ASYNC_BYTES, INLINE_BYTES
from .store import ObjectStore

DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S = 900, 3_600
DEFAULT_TTL_S, MIN_TTL_S, MAX_TTL_S = 21_600, 60, 21_600


@dataclass(frozen=True, slots=True)
class AsyncInferenceConfig:
    """``AsyncInferenceConfig``, flattened."""

    s3_output_path: str = "s3://local/async-output"
    s3_failure_path: str = "s3://local/async-failure"
    max_concurrent_invocations_per_instance: int = 4


@dataclass(frozen=True, slots=True)
class AcceptedInvocation:
    """The members of the 202 response."""

    inference_id: str
    output: str
    failure: str


@dataclass(frozen=True, slots=True)
class _Job:
    accepted: AcceptedInvocation
    headers: Headers
    body: bytes
    location: str
    timeout_s: int
    ttl_s: int
    queued_at: float


class AsyncInvocations:
    """The queue of one endpoint."""

    def __init__(
        self,
        endpoint: Endpoint,
        store: ObjectStore,
        config: AsyncInferenceConfig,
        log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint = endpoint
        """Runs the next request. An update replaces it; the queue stays."""
        self._store = store
        self._config = config
        self._log = log
        self._clock = clock
        self._workers = ThreadPoolExecutor(config.max_concurrent_invocations_per_instance, "async")

    def accept(self, headers: Headers, body: bytes) -> AcceptedInvocation:
        """Queue a request. Raises ApiError for an invalid one."""
        given = {name.lower(): value for name, value in headers}
        location = given.get(INPUT_LOCATION, "")
        reason = problem(given, REQUEST)
        if reason is not None:
            raise invalid(reason)
        if bool(location) == bool(body):
            raise invalid("give either InputLocation or Body")
        if len(body) > INLINE_BYTES:
            raise invalid(f"Body has {len(body)} bytes, and {INLINE_BYTES} are allowed: use InputLocation")
        if location:
            self._store.path(location)
        number = _number(given, "InvocationTimeoutSeconds", DEFAULT_TIMEOUT_S, 1, MAX_TIMEOUT_S)
        ttl = _number(given, "RequestTTLSeconds", DEFAULT_TTL_S, MIN_TTL_S, MAX_TTL_S)
        accepted = self._name(given)
        job = _Job(accepted, headers, body, location, number, ttl, self._clock())
        self._workers.submit(self._run_logged, job)
        return accepted

    def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _name(self, given: dict[str, str]) -> AcceptedInvocation:
        identity = given.get(INFERENCE_ID) or str(uuid.uuid4())
        unique = str(uuid.uuid4())
        folder = given.get(OUTPUT_EXTENSION, "").strip("/")
        name = given.get(FILENAME) or f"{unique}.out"
        place = "/".join(part for part in (folder, name) if part)
        output = f"{self._config.s3_output_path.rstrip('/')}/{place}"
        failure = f"{self._config.s3_failure_path.rstrip('/')}/{'/'.join(p for p in (folder, unique) if p)}-error.out"
        for address in (output, failure):
            self._store.path(address)
        return AcceptedInvocation(identity, output, failure)

    def _run(self, job: _Job) -> None:
        try:
            if self._clock() - job.queued_at > job.ttl_s:
                raise invalid(f"the request waited longer than RequestTTLSeconds, {job.ttl_s} s")
            body = job.body or self._store.read(job.location)
            if len(body) > ASYNC_BYTES:
                raise invalid(f"{job.location} has {len(body)} bytes; {ASYNC_BYTES} are allowed")
            response = self.endpoint.invoke(job.headers, body, ASYNC, job.timeout_s)
        except ApiError as error:
            document = {"errorCode": error.kind, **error.document(), "inferenceId": job.accepted.inference_id}
            self._store.write(job.accepted.failure, json.dumps(document).encode())
            self._log(f"async {job.accepted.inference_id} failed: {error}")
        else:
            self._store.write(job.accepted.output, response.body)
            self._log(f"async {job.accepted.inference_id} is done: {self._store.path(job.accepted.output)}")

    def _run_logged(self, job: _Job) -> None:
        try:
            self._run(job)
        except OSError as error:  # a full disk or a missing permission: the caller cannot learn of it otherwise
            self._log(f"async {job.accepted.inference_id} is lost: {error}")


def _number(given: dict[str, str], name: str, default: int, minimum: int, maximum: int) -> int:
    text = given.get((PREFIX + name).lower())
    if text is None:
        return default
    if not text.isdecimal() or not minimum <= int(text) <= maximum:
        raise invalid(f"{name} must be a number from {minimum} to {maximum}")
    return int(text)
