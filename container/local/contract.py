"""The walk along the container contract: start, ping, invoke, refuse, keep alive, stop; one finding for each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException

from server.doctor.findings import Finding, ok, stop, warn

from .call import Address, Answer, NoAnswer, call
from .hosting import Hosting
from .instance import DidNotStart
from .limits import MIB
from .refusal import Refusal
from .sample import Sample

PINGS = 5
TOO_LARGE_BYTES = 101 * MIB
"""More than any mode but the asynchronous one ever sends."""
ADVICE = {"MaxConcurrentTransforms", "BatchStrategy", "MaxPayloadInMB"}


def walk(hosting: Hosting, choose: Callable[[Address], Sample | None]) -> Iterator[Finding]:
    """Starts what is hosted, and stops it. ``choose`` gives the request that the model should answer."""
    try:
        seconds = hosting.start()
    except DidNotStart as error:
        yield stop("start", str(error))
        return
    try:
        budget = hosting.plan.limits.startup_s
        yield ok("start", f"healthy after {seconds:.1f} s of {budget:g} s")
        yield from _examine(hosting, choose)
    finally:
        code, seconds = hosting.stop()
    yield _ended(code, seconds, hosting.plan.limits.stop_s)


def _examine(hosting: Hosting, choose: Callable[[Address], Sample | None]) -> Iterator[Finding]:
    address, limit_s = hosting.address, hosting.plan.limits.response_s

    def post(body: bytes, content_type: str, **extra: str) -> Answer:
        return call(address, "POST", "/invocations", {"content-type": content_type, **extra}, body, within_s=limit_s)

    yield _pings(address, hosting.plan.limits.ping_timeout_s)
    sample = choose(address)
    if sample is None:
        yield warn("invoke", "the model brings no sample", "give one with --body FILE --content-type TYPE")
    else:
        yield _told("invoke", lambda: _answered(post(sample.body, sample.content_type), sample.origin))
        yield _told("headers", lambda: _ignored(post(sample.body, sample.content_type, **{"x-unheard-of": "1"})))
    yield _told("type", lambda: _refused("type", post(b"<a/>", "application/x-unheard-of"), 415, "an unknown type"))
    yield _told("malformed", lambda: _refused("malformed", post(b"{", "application/json"), 400, "half a JSON object"))
    yield _told("large", lambda: _refused("large", post(bytes(TOO_LARGE_BYTES), "text/csv"), 413, "101 MB"))
    yield _keep_alive(address, limit_s)
    yield _told("batch", lambda: _advice(call(address, "GET", "/execution-parameters", within_s=limit_s)))
    if not hosting.instance or not hosting.instance.running:
        yield stop("alive", "the container ended under these requests", "its last lines say why")


def _told(subject: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except NoAnswer as error:
        return stop(subject, str(error))
    except Refusal as error:
        return stop(subject, error.message)


def _pings(address: Address, limit_s: float) -> Finding:
    longest = 0.0
    for _ in range(PINGS):
        begun = time.monotonic()
        try:
            answer = call(address, "GET", "/ping", within_s=limit_s)
        except NoAnswer as error:
            return stop("ping", str(error))
        if answer.status != 200:
            return stop("ping", f"/ping said {answer.status} after it had said 200")
        longest = max(longest, time.monotonic() - begun)
    return ok("ping", f"{PINGS} of {PINGS}, the slowest in {longest * 1e3:.1f} ms of {limit_s * 1e3:g} ms")


def _answered(answer: Answer, origin: str) -> Finding:
    if not answer.ok:
        return stop("invoke", f"{origin} was answered {answer.status}: {answer.text[:200]}")
    if "content-type" not in answer.headers:
        return warn("invoke", "the answer has no Content-Type", "callers and pipelines read it")
    return ok("invoke", f"{origin}: 200, {answer.headers['content-type']}, {len(answer.body)} bytes")


def _ignored(answer: Answer) -> Finding:
    if answer.ok:
        return ok("headers", "an unknown header is ignored")
    return stop("headers", f"an unknown header was answered {answer.status}", "the platform may add headers")


def _refused(subject: str, answer: Answer, wanted: int, what: str) -> Finding:
    if 400 <= answer.status < 500:
        return ok(subject, f"{what}: {answer.status}")
    advice = f"{wanted} tells callers that it is theirs to change"
    return warn(subject, f"{what} was answered {answer.status}", advice)


def _keep_alive(address: Address, limit_s: float) -> Finding:
    """A refused request, then a ping, on one connection: the platform's proxy reuses them."""
    client = HTTPConnection(address.host, address.port, timeout=limit_s)
    try:
        client.request("POST", "/invocations", b"{", {"content-type": "application/json"})
        client.getresponse().read()
        used = client.sock
        client.request("GET", "/ping")
        client.getresponse().read()
        kept = used is not None and client.sock is used
    except (OSError, HTTPException) as error:
        return warn("reuse", f"a connection ended after a refusal: {error}", "keep it: the platform's proxy reuses it")
    finally:
        client.close()
    if not kept:
        return warn("reuse", "the connection is closed after a refusal", "keep it: the platform's proxy reuses it")
    return ok("reuse", "connections stay open, after refusals too")


def _advice(answer: Answer) -> Finding:
    if answer.status == 404:
        return ok("batch", "no /execution-parameters: a transform job takes its own terms")
    try:
        said = json.loads(answer.body)
        missing = ADVICE - set(said)
    except (ValueError, TypeError):
        said, missing = None, ADVICE
    if answer.status != 200 or missing:
        return warn("batch", f"/execution-parameters was answered {answer.status}: {answer.text[:100]}", "404 is fine")
    return ok("batch", f"advice: {said['MaxConcurrentTransforms']} at a time, {said['BatchStrategy']}")


def _ended(code: int, seconds: float, limit_s: float) -> Finding:
    if code == 137 and seconds >= limit_s:
        return stop("stop", f"SIGTERM did not end it within {limit_s:g} s: SIGKILL", "what was under way is lost")
    if code not in (0, 143):
        return warn("stop", f"ended with {code}, {seconds:.1f} s after SIGTERM", "0 says that nothing was lost")
    return ok("stop", f"ended with {code}, {seconds:.1f} s after SIGTERM")
