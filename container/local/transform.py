"""A batch transform job over folders: ask for advice, cut, send side by side, try again, put together, file by file."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .association import Association, DataProcessing
from .call import Address, Answer, NoAnswer, call
from .limits import MIB, TRANSFORM_BYTES
from .records import SPLIT, BadInput, joined, lines, payloads
from .store import write

STRATEGIES = {"MultiRecord": "MULTI_RECORD", "SingleRecord": "SINGLE_RECORD"}
"""As the API writes them, and as the container sees and says them."""
ADVICE_S = 60.0
PIECE_BYTES = 65_536


class JobFailed(Exception):
    """The job ends here, as it would on the platform; the message says at which file and why."""


@dataclass(frozen=True, slots=True)
class Job:
    """CreateTransformJob, in its words. None: not said, so that the container's advice counts, then the usual."""

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
        """What the platform tells the container."""
        said: dict[str, str] = {"SAGEMAKER_BATCH": "true"}
        if self.max_payload_in_mb is not None:
            said["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(self.max_payload_in_mb)
        if self.batch_strategy is not None:
            said["SAGEMAKER_BATCH_STRATEGY"] = STRATEGIES[self.batch_strategy]
        if self.max_concurrent_transforms is not None:
            said["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(self.max_concurrent_transforms)
        return said


@dataclass(frozen=True, slots=True)
class Terms:
    """What is sent how: job over advice over the usual. ``payload_bytes`` None: chunks without a length."""

    strategy: str = "MultiRecord"
    payload_bytes: int | None = 6 * MIB
    concurrent: int = 1


def settle(job: Job, advice: dict[str, object]) -> Terms:
    """The terms of a job, given what ``/execution-parameters`` says. Raises JobFailed for terms that cannot be."""
    said = {over: under for over, under in STRATEGIES.items() if advice.get("BatchStrategy") in (over, under)}
    strategy = job.batch_strategy or next(iter(said), "MultiRecord")
    megabytes = _first(job.max_payload_in_mb, advice.get("MaxPayloadInMB"), 6)
    concurrent = _first(job.max_concurrent_transforms, advice.get("MaxConcurrentTransforms"), 1)
    if megabytes * MIB * concurrent > TRANSFORM_BYTES:
        raise JobFailed(
            f"MaxPayloadInMB {megabytes} times MaxConcurrentTransforms {concurrent} is more than 100: lower one of them"
        )
    if job.data_processing.needed and job.split_type not in ("Line", "None"):
        raise JobFailed("filters and joins need SplitType Line, or None with one record a file")
    return Terms(strategy, megabytes * MIB if megabytes else None, max(concurrent, 1))


def ask_advice(address: Address) -> dict[str, object]:
    """``GET /execution-parameters``; empty where there is none."""
    try:
        answer = call(address, "GET", "/execution-parameters", within_s=ADVICE_S)
        found = json.loads(answer.body) if answer.status == 200 else {}
    except (NoAnswer, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class Transform:
    """One job against one container."""

    def __init__(self, job: Job, address: Address, terms: Terms, tell: Callable[[str], None]) -> None:
        """Raises JobFailed for filters that cannot be."""
        self._job = job
        self._address = address
        self._terms = terms
        self._tell = tell
        self._association = self._associate()

    def run(self) -> int:
        """Every file below the input folder, in order; how many there were. Raises JobFailed at the first failure."""
        root = self._job.input
        files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        if not files:
            raise JobFailed(f"{root} holds no file to transform")
        with ThreadPoolExecutor(self._terms.concurrent, "transform") as workers:
            for path in files:
                relative = Path(path.name) if root.is_file() else path.relative_to(root)
                target = self._job.output / relative.with_name(relative.name + ".out")
                try:
                    write(target, b"".join(self._answers(path.read_bytes(), workers)))
                except (BadInput, OSError, UnicodeDecodeError) as error:
                    raise JobFailed(f"{path}: {error}") from error
                self._tell(f"{relative}: {target}")
        return len(files)

    def _associate(self) -> Association | None:
        job = self._job
        if not job.data_processing.needed:
            return None
        try:
            return Association(job.data_processing, job.content_type, job.accept)
        except BadInput as error:
            raise JobFailed(str(error)) from error

    def _answers(self, content: bytes, workers: ThreadPoolExecutor) -> Iterator[bytes]:
        """What a file becomes, request by request in order; no more requests are made ahead than run."""
        ahead: deque[tuple[list[bytes], Future[Answer]]] = deque()
        records = SPLIT[self._job.split_type](content)
        try:
            for batch in payloads(records, self._job.split_type, self._terms.strategy, self._terms.payload_bytes):
                if len(ahead) >= self._terms.concurrent:
                    yield self._assembled(*ahead.popleft())
                ahead.append((batch, workers.submit(self._send, self._body(batch))))
            while ahead:
                yield self._assembled(*ahead.popleft())
        finally:
            for _, waiting in ahead:
                waiting.cancel()

    def _body(self, batch: list[bytes]) -> bytes:
        if self._association is not None:
            batch = [self._association.sent(record) for record in batch]
        return joined(batch, self._job.split_type)

    def _assembled(self, batch: list[bytes], waiting: Future[Answer]) -> bytes:
        body = waiting.result().body
        if self._association is not None:
            answers = lines(body) if self._job.split_type == "Line" else iter([body.removesuffix(b"\n")])
            return self._association.results(batch, answers)
        if self._job.assemble_with == "Line" and not body.endswith(b"\n"):
            return body + b"\n"
        return body

    def _send(self, body: bytes) -> Answer:
        """Raises BadInput when the container refuses, or fails more often than is retried."""
        job = self._job
        given = {"content-type": job.content_type, "accept": job.accept}
        headers = {name: value for name, value in given.items() if value}
        said = ""
        for _ in range(job.invocations_max_retries + 1):
            # An iterator is used up by being sent, so that each attempt needs its own.
            content = body if self._terms.payload_bytes is not None else _pieces(body)
            try:
                answer = call(
                    self._address,
                    "POST",
                    "/invocations",
                    headers,
                    content,
                    within_s=job.invocations_timeout_in_seconds,
                )
            except NoAnswer as error:
                said = str(error)
                continue
            if answer.ok:
                return answer
            said = f"the container answered {answer.status}: {answer.text[:500]}"
            if 400 <= answer.status < 500 and answer.status != 429:
                raise BadInput(said)
        raise BadInput(f"{said} (after {job.invocations_max_retries} retries)")


def _pieces(body: bytes) -> Iterator[bytes]:
    for begin in range(0, len(body), PIECE_BYTES):
        yield body[begin : begin + PIECE_BYTES]


def _first(*values: object) -> int:
    """The first that is a whole number of at least 0."""
    return next(value for value in values if isinstance(value, int) and not isinstance(value, bool) and value >= 0)
