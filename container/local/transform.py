"""A batch transform job over folders: split each file, send requests concurrently, retry, assemble the output."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .association import Association, DataProcessing
from .call import Address, ContainerResponse, NoResponse, call
from .limits import MIB, TRANSFORM_BYTES
from .records import SPLIT, InvalidInput, joined, lines, payloads
from .store import write

STRATEGIES = {"MultiRecord": "MULTI_RECORD", "SingleRecord": "SINGLE_RECORD"}
"""The API's names, and the container's."""
EXECUTION_PARAMETERS_S = 60.0
CHUNK_BYTES = 65_536


class TransformJobFailed(Exception):
    """The job ends, as on the platform; the message names the file and the reason."""


@dataclass(frozen=True, slots=True)
class TransformJob:
    """The options of CreateTransformJob. None: the container's execution parameters decide, then the default."""

    input: Path
    output: Path
    content_type: str = ""
    accept: str = ""
    split_type: str = "None"
    assemble_with: str = "None"
    batch_strategy: str | None = None
    max_payload_in_mb: int | None = None
    max_concurrent_transforms: int | None = None
    invocations_timeout_in_seconds: int = 600
    invocations_max_retries: int = 3
    data_processing: DataProcessing = field(default_factory=DataProcessing)

    def environ(self) -> dict[str, str]:
        """The variables that the platform sets in the container."""
        environ: dict[str, str] = {"SAGEMAKER_BATCH": "true"}
        if self.max_payload_in_mb is not None:
            environ["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(self.max_payload_in_mb)
        if self.batch_strategy is not None:
            environ["SAGEMAKER_BATCH_STRATEGY"] = STRATEGIES[self.batch_strategy]
        if self.max_concurrent_transforms is not None:
            environ["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(self.max_concurrent_transforms)
        return environ


@dataclass(frozen=True, slots=True)
class TransformParameters:
    """The effective settings of a job. ``payload_bytes`` None: the body is sent chunked, without a length."""

    strategy: str = "MultiRecord"
    payload_bytes: int | None = 6 * MIB
    concurrent: int = 1


def resolve_parameters(job: TransformJob, stated: dict[str, object]) -> TransformParameters:
    """The effective settings: the job's, then those of ``/execution-parameters``, then the defaults.

    Raises TransformJobFailed for settings that exclude each other.
    """
    strategies = {over: under for over, under in STRATEGIES.items() if stated.get("BatchStrategy") in (over, under)}
    strategy = job.batch_strategy or next(iter(strategies), "MultiRecord")
    megabytes = _first_count(job.max_payload_in_mb, stated.get("MaxPayloadInMB"), 6)
    concurrent = _first_count(job.max_concurrent_transforms, stated.get("MaxConcurrentTransforms"), 1)
    if megabytes * MIB * concurrent > TRANSFORM_BYTES:
        raise TransformJobFailed(
            f"MaxPayloadInMB {megabytes} times MaxConcurrentTransforms {concurrent} is more than 100: lower one of them"
        )
    if job.data_processing.needed and job.split_type not in ("Line", "None"):
        raise TransformJobFailed("filters and joins need SplitType Line, or None with one record in each file")
    return TransformParameters(strategy, megabytes * MIB if megabytes else None, max(concurrent, 1))


def fetch_execution_parameters(address: Address) -> dict[str, object]:
    """The JSON object of ``GET /execution-parameters``; empty when the container has none."""
    try:
        response = call(address, "GET", "/execution-parameters", within_s=EXECUTION_PARAMETERS_S)
        found = json.loads(response.body) if response.status == 200 else {}
    except (NoResponse, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class TransformRun:
    """One job against one container."""

    def __init__(
        self, job: TransformJob, address: Address, parameters: TransformParameters, log: Callable[[str], None]
    ) -> None:
        """Raises TransformJobFailed for invalid filters."""
        self._job = job
        self._address = address
        self._parameters = parameters
        self._log = log
        self._association = self._associate()

    def run(self) -> int:
        """Transform every file below the input folder, in order, and return their number.

        Raises TransformJobFailed at the first failure.
        """
        root = self._job.input
        files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        if not files:
            raise TransformJobFailed(f"{root} holds no file to transform")
        with ThreadPoolExecutor(self._parameters.concurrent, "transform") as workers:
            for path in files:
                relative = Path(path.name) if root.is_file() else path.relative_to(root)
                target = self._job.output / relative.with_name(relative.name + ".out")
                try:
                    write(target, b"".join(self._answers(path.read_bytes(), workers)))
                except (InvalidInput, OSError, UnicodeDecodeError) as error:
                    raise TransformJobFailed(f"{path}: {error}") from error
                self._log(f"{relative}: {target}")
        return len(files)

    def _associate(self) -> Association | None:
        job = self._job
        if not job.data_processing.needed:
            return None
        try:
            return Association(job.data_processing, job.content_type, job.accept)
        except InvalidInput as error:
            raise TransformJobFailed(str(error)) from error

    def _answers(self, content: bytes, workers: ThreadPoolExecutor) -> Iterator[bytes]:
        """The output of a file, request by request in order; at most ``concurrent`` requests are built pending."""
        pending: deque[tuple[list[bytes], Future[ContainerResponse]]] = deque()
        records = SPLIT[self._job.split_type](content)
        try:
            for batch in payloads(
                records, self._job.split_type, self._parameters.strategy, self._parameters.payload_bytes
            ):
                if len(pending) >= self._parameters.concurrent:
                    yield self._assembled(*pending.popleft())
                pending.append((batch, workers.submit(self._send, self._body(batch))))
            while pending:
                yield self._assembled(*pending.popleft())
        finally:
            for _, waiting in pending:
                waiting.cancel()

    def _body(self, batch: list[bytes]) -> bytes:
        if self._association is not None:
            batch = [self._association.sent(record) for record in batch]
        return joined(batch, self._job.split_type)

    def _assembled(self, batch: list[bytes], waiting: Future[ContainerResponse]) -> bytes:
        body = waiting.result().body
        if self._association is not None:
            responses = lines(body) if self._job.split_type == "Line" else iter([body.removesuffix(b"\n")])
            return self._association.results(batch, responses)
        if self._job.assemble_with == "Line" and not body.endswith(b"\n"):
            return body + b"\n"
        return body

    def _send(self, body: bytes) -> ContainerResponse:
        """Send one request. Raises InvalidInput for an error response, or when all retries have failed."""
        job = self._job
        given = {"content-type": job.content_type, "accept": job.accept}
        headers = {name: value for name, value in given.items() if value}
        failure = ""
        for _ in range(job.invocations_max_retries + 1):
            # A sent iterator is exhausted, so each attempt needs a new one.
            content = body if self._parameters.payload_bytes is not None else _chunks(body)
            try:
                response = call(
                    self._address, "POST", "/invocations", headers, content, within_s=job.invocations_timeout_in_seconds
                )
            except NoResponse as error:
                failure = str(error)
                continue
            if response.ok:
                return response
            failure = f"the container responded {response.status}: {response.text[:500]}"
            if 400 <= response.status < 500 and response.status != 429:
                raise InvalidInput(failure)
        raise InvalidInput(f"{failure} (after {job.invocations_max_retries} retries)")


def _chunks(body: bytes) -> Iterator[bytes]:
    for begin in range(0, len(body), CHUNK_BYTES):
        yield body[begin : begin + CHUNK_BYTES]


def _first_count(*values: object) -> int:
    """The first value that is an integer of at least 0."""
    return next(value for value in values if isinstance(value, int) and not isinstance(value, bool) and value >= 0)
