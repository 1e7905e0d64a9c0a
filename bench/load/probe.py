"""The probe: a server's metadata and metrics before and after a load."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from prometheus_client.parser import text_string_to_metric_families

from ..errors import Unusable
from .target import Target

TIMEOUT_S = 3.0
STAGE_METRIC = "slipway_stage_seconds"
MAX_BODY_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class StageTotals:
    """The server's histogram of one stage since its start: sum in seconds, and count."""

    seconds: float
    count: float


def reach(target: Target) -> None:
    """Open and close one connection. Raises Unusable with the reason when the server cannot be reached."""
    try:
        socket.create_connection((target.host, target.port), timeout=TIMEOUT_S).close()
    except OSError as error:
        reason = error.strerror or str(error) or "no answer"
        raise Unusable(
            f"cannot reach {target.root}: {reason}. Is the server running, and is the port right?"
        ) from error


def metadata(target: Target, model: str | None = None) -> dict[str, Any] | None:
    """Open Inference metadata of the model, or of the one that the path names; None where there is none."""
    name = model or target.model
    if name is None:
        return None
    body = _get(target, f"/v2/models/{quote(name)}")
    try:
        found = json.loads(body) if body else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def models(target: Target) -> tuple[str, ...] | None:
    """The models that are ready, by the repository index of the Open Inference Protocol; None without an index."""
    body = _get(target, "/v2/repository/index", b"{}")
    try:
        found = json.loads(body) if body else None
    except ValueError:
        return None
    if not isinstance(found, list):
        return None
    ready = [one for one in found if isinstance(one, dict) and one.get("state", "READY") in ("READY", "")]
    return tuple(dict.fromkeys(str(one["name"]) for one in ready if "name" in one))


def stage_totals(target: Target) -> dict[str, StageTotals]:
    """The server's stage histograms, summed over models; empty for a server that has none."""
    body = _get(target, "/metrics")
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(body or ""):
            for sample in family.samples if family.name == STAGE_METRIC else ():
                into = sums if sample.name.endswith("_sum") else counts if sample.name.endswith("_count") else None
                stage = sample.labels.get("stage")
                if into is not None and stage is not None:
                    into[stage] = into.get(stage, 0.0) + sample.value
    except ValueError:
        return {}
    return {stage: StageTotals(seconds, counts.get(stage, 0.0)) for stage, seconds in sums.items()}


def stage_means_ms(before: dict[str, StageTotals], after: dict[str, StageTotals]) -> dict[str, float]:
    """Mean ms of each stage between two probes, over the requests of all clients."""
    means = {}
    for stage, total in after.items():
        earlier = before.get(stage, StageTotals(0.0, 0.0))
        count = total.count - earlier.count
        if count > 0:
            means[stage] = (total.seconds - earlier.seconds) / count * 1e3
    return means


def ask(
    target: Target, path: str, body: bytes | None = None, method: str | None = None, timeout_s: float = TIMEOUT_S
) -> tuple[int, bytes]:
    """The status and the body of the response to one request, a POST with a body of JSON unless ``method`` says so.

    Raises OSError without a response.
    """
    make = http.client.HTTPSConnection if target.tls else http.client.HTTPConnection
    connection = make(target.host, target.port, timeout=timeout_s)
    try:
        kind = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method or ("GET" if body is None else "POST"), path, body, kind)
        response = connection.getresponse()
        return response.status, response.read(MAX_BODY_BYTES)
    except http.client.HTTPException as error:
        raise OSError(str(error) or type(error).__name__) from error
    finally:
        connection.close()


def _get(target: Target, path: str, posted: bytes | None = None) -> str | None:
    """The body of a 200; None for any other response and without one, because a load does not depend on it."""
    try:
        status, body = ask(target, path, posted)
    except OSError:
        return None
    return body.decode("utf-8", "replace") if status == 200 else None
