"""Asynchronous invocation: answered 202 at once, run in turn, its result or failure an object of the store."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .endpoint import ASYNC, Endpoint, Sent
from .headers import INFERENCE_ID, PREFIX
from .limits import ASYNC_BYTES, INLINE_BYTES
from .refusal import Refusal, invalid
from .store import Store

USUAL_TIMEOUT_S, LONGEST_TIMEOUT_S = 900, 3_600
USUAL_TTL_S, LEAST_TTL_S, LONGEST_TTL_S = 21_600, 60, 21_600


@dataclass(frozen=True, slots=True)
class Config:
    """``AsyncInferenceConfig``, flattened."""

    s3_output_path: str = "s3://local/async-output"
    s3_failure_path: str = "s3://local/async-failure"
    max_concurrent_invocations_per_instance: int = 4


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the caller is told."""

    inference_id: str
    output: str
    failure: str


@dataclass(frozen=True, slots=True)
class _Job:
    accepted: Accepted
    sent: Sent
    body: bytes
    location: str
    timeout_s: int
    ttl_s: int
    queued_at: float


class Asynchronous:
    """The queue of one endpoint."""

    def __init__(
        self,
        endpoint: Endpoint,
        store: Store,
        config: Config,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._store = store
        self._config = config
        self._tell = tell
        self._clock = clock
        self._workers = ThreadPoolExecutor(config.max_concurrent_invocations_per_instance, "async")

    def accept(self, sent: Sent, body: bytes) -> Accepted:
        """Queue a request. Raises Refusal for one that cannot be."""
        given = {name.lower(): value for name, value in sent}
        location = given.get(PREFIX + "inputlocation", "")
        if bool(location) == bool(body):
            raise invalid("exactly one of InputLocation and Body is needed")
        if len(body) > INLINE_BYTES:
            raise invalid(f"Body may have {INLINE_BYTES} bytes, and has {len(body)}: use InputLocation")
        if location:
            self._store.path(location)
        number = _number(given, "InvocationTimeoutSeconds", USUAL_TIMEOUT_S, 1, LONGEST_TIMEOUT_S)
        ttl = _number(given, "RequestTTLSeconds", USUAL_TTL_S, LEAST_TTL_S, LONGEST_TTL_S)
        accepted = self._name(given)
        job = _Job(accepted, sent, body, location, number, ttl, self._clock())
        self._workers.submit(self._run_told, job)
        return accepted

    def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _name(self, given: dict[str, str]) -> Accepted:
        identity = given.get(INFERENCE_ID) or str(uuid.uuid4())
        unique = str(uuid.uuid4())
        folder = given.get(PREFIX + "s3outputpathextension", "").strip("/")
        name = given.get(PREFIX + "filename") or f"{unique}.out"
        place = "/".join(part for part in (folder, name) if part)
        output = f"{self._config.s3_output_path.rstrip('/')}/{place}"
        failure = f"{self._config.s3_failure_path.rstrip('/')}/{'/'.join(p for p in (folder, unique) if p)}-error.out"
        for address in (output, failure):
            self._store.path(address)
        return Accepted(identity, output, failure)

    def _run(self, job: _Job) -> None:
        try:
            if self._clock() - job.queued_at > job.ttl_s:
                raise invalid(f"the request waited longer than RequestTTLSeconds, {job.ttl_s} s")
            body = job.body or self._store.read(job.location)
            if len(body) > ASYNC_BYTES:
                raise invalid(f"{job.location} has {len(body)} bytes; {ASYNC_BYTES} are allowed")
            answer = self._endpoint.invoke(job.sent, body, ASYNC, job.timeout_s)
        except Refusal as error:
            document = {"errorCode": error.kind, **error.document(), "inferenceId": job.accepted.inference_id}
            self._store.write(job.accepted.failure, json.dumps(document).encode())
            self._tell(f"async {job.accepted.inference_id} failed: {error}")
        else:
            self._store.write(job.accepted.output, answer.body)
            self._tell(f"async {job.accepted.inference_id} is done: {self._store.path(job.accepted.output)}")

    def _run_told(self, job: _Job) -> None:
        try:
            self._run(job)
        except OSError as error:  # a full disk, no permission: nobody else would hear of it
            self._tell(f"async {job.accepted.inference_id} is lost: {error}")


def _number(given: dict[str, str], name: str, usual: int, least: int, most: int) -> int:
    text = given.get((PREFIX + name).lower())
    if text is None:
        return usual
    if not text.isdecimal() or not least <= int(text) <= most:
        raise invalid(f"{name} must be a number from {least} to {most}")
    return int(text)
