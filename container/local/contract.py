"""The checks of the container contract: start, ping, invoke, errors, connection reuse, stop; a finding for each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException

from server.doctor.findings import Finding, ok, stop, warn

from . import attributes
from .api_error import ApiError
from .call import Address, ContainerResponse, NoResponse, call
from .container import DidNotStart
from .hosting import Hosting
from .limits import MIB
from .sample import Sample

PINGS = 5
TOO_LARGE_BYTES = 101 * MIB
"""More than any mode sends, except asynchronous invocation."""
EXECUTION_PARAMETERS = {"MaxConcurrentTransforms", "BatchStrategy", "MaxPayloadInMB"}


def check_contract(hosting: Hosting, choose: Callable[[Address], Sample | None]) -> Iterator[Finding]:
    """Start the container, check it and stop it. ``choose`` returns a request that the model should answer."""
    try:
        seconds = hosting.start()
    except DidNotStart as error:
        yield stop("start", str(error))
        return
    try:
        budget = hosting.plan.limits.startup_s
        yield ok("start", f"healthy after {seconds:.1f} s of {budget:g} s")
        yield from _checks_while_running(hosting, choose)
    finally:
        code, seconds = hosting.stop()
    yield _ended(code, seconds, hosting.plan.limits.stop_s)


def _checks_while_running(hosting: Hosting, choose: Callable[[Address], Sample | None]) -> Iterator[Finding]:
    address, limit_s = hosting.address, hosting.plan.limits.response_s

    def post(body: bytes, content_type: str, **extra: str) -> ContainerResponse:
        return call(address, "POST", "/invocations", {"content-type": content_type, **extra}, body, within_s=limit_s)

    yield _pings(address, hosting.plan.limits.ping_timeout_s)
    sample = choose(address)
    if sample is None:
        yield warn("invoke", "the model has no sample request", "give one with --body FILE --content-type TYPE")
    else:
        yield _checked("invoke", lambda: _answered(post(sample.body, sample.content_type), sample.origin))
        yield _checked("headers", lambda: _ignored(post(sample.body, sample.content_type, **{"x-unheard-of": "1"})))
    yield _checked("type", lambda: _refused("type", post(b"<a/>", "application/x-unheard-of"), 415, "an unknown type"))
    yield _checked(
        "malformed", lambda: _refused("malformed", post(b"{", "application/json"), 400, "half a JSON object")
    )
    yield _checked("large", lambda: _refused("large", post(bytes(TOO_LARGE_BYTES), "text/csv"), 413, "101 MB"))
    yield _keep_alive(address, limit_s)
    yield _checked(
        "batch", lambda: _execution_parameters(call(address, "GET", "/execution-parameters", within_s=limit_s))
    )
    if not hosting.container or not hosting.container.running:
        yield stop("alive", "the container ended during these requests", "read the last lines of its log")


def _checked(subject: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except NoResponse as error:
        return stop(subject, str(error))
    except ApiError as error:
        return stop(subject, error.message)


def _pings(address: Address, limit_s: float) -> Finding:
    longest = 0.0
    for _ in range(PINGS):
        begun = time.monotonic()
        try:
            response = call(address, "GET", "/ping", within_s=limit_s)
        except NoResponse as error:
            return stop("ping", str(error))
        if response.status != 200:
            return stop("ping", f"/ping returned {response.status} after it had returned 200")
        longest = max(longest, time.monotonic() - begun)
    return ok("ping", f"{PINGS} of {PINGS}, the slowest in {longest * 1e3:.1f} ms of {limit_s * 1e3:g} ms")


def _answered(response: ContainerResponse, origin: str) -> Finding:
    if not response.ok:
        return stop("invoke", f"{origin} got {response.status}: {response.text[:200]}")
    reason = attributes.problem(response.headers, attributes.RESPONSE)
    if reason is not None:
        return stop("invoke", f"a header of the response is invalid: {reason}")
    if "content-type" not in response.headers:
        return warn("invoke", "the response has no Content-Type", "callers and inference pipelines need it")
    return ok("invoke", f"{origin}: 200, {response.headers['content-type']}, {len(response.body)} bytes")


def _ignored(response: ContainerResponse) -> Finding:
    if response.ok:
        return ok("headers", "an unknown header is ignored")
    return stop("headers", f"an unknown header got {response.status}", "the platform may add headers")


def _refused(subject: str, response: ContainerResponse, wanted: int, what: str) -> Finding:
    if 400 <= response.status < 500:
        return ok(subject, f"{what}: {response.status}")
    advice = f"{wanted} tells callers that the request is wrong"
    return warn(subject, f"{what} got {response.status}", advice)


def _keep_alive(address: Address, limit_s: float) -> Finding:
    """A malformed request, then a ping, on one connection: the platform's proxy reuses connections."""
    client = HTTPConnection(address.host, address.port, timeout=limit_s)
    try:
        client.request("POST", "/invocations", b"{", {"content-type": "application/json"})
        client.getresponse().read()
        used = client.sock
        client.request("GET", "/ping")
        client.getresponse().read()
        kept = used is not None and client.sock is used
    except (OSError, HTTPException) as error:
        return warn(
            "reuse",
            f"a connection ended after an error response: {error}",
            "keep it open: the platform's proxy reuses it",
        )
    finally:
        client.close()
    if not kept:
        return warn(
            "reuse", "the connection is closed after an error response", "keep it open: the platform's proxy reuses it"
        )
    return ok("reuse", "connections stay open, also after error responses")


def _execution_parameters(response: ContainerResponse) -> Finding:
    if response.status == 404:
        return ok("batch", "no /execution-parameters: a transform job uses its own settings")
    try:
        stated = json.loads(response.body)
        missing = EXECUTION_PARAMETERS - set(stated)
    except (ValueError, TypeError):
        stated, missing = None, EXECUTION_PARAMETERS
    if response.status != 200 or missing:
        return warn("batch", f"/execution-parameters got {response.status}: {response.text[:100]}", "404 is fine")
    return ok(
        "batch", f"execution parameters: {stated['MaxConcurrentTransforms']} at a time, {stated['BatchStrategy']}"
    )


def _ended(code: int, seconds: float, limit_s: float) -> Finding:
    if code == 137 and seconds >= limit_s:
        return stop(
            "stop", f"SIGTERM did not end the container within {limit_s:g} s: SIGKILL", "requests under way are lost"
        )
    if code not in (0, 143):
        return warn("stop", f"ended with {code}, {seconds:.1f} s after SIGTERM", "exit with 0 after a drain")
    return ok("stop", f"ended with {code}, {seconds:.1f} s after SIGTERM")
