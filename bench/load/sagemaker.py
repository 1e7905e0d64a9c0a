"""A SageMaker endpoint: boto3 finds and signs the requests, and bench's engine sends them.

boto3's client keeps no schedule and reports no instants, so it never sends here. It makes the bytes of each request
(address, credentials, signature). A signature is valid for five minutes and is renewed while a load runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..errors import Unusable
from . import target
from .payload import Payload
from .server_timing import Carrier
from .target import Target
from .wire import Wire

PREFIX = "sagemaker:"
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
# Headers that the engine writes itself.
_HOP_BY_HOP = ("content-length", "host", "connection", "transfer-encoding", "expect")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``region`` and ``url`` are None for what boto3 finds in the user's configuration; ``url`` leads to a stand-in."""

    name: str
    region: str | None = None
    url: str | None = None

    def target(self) -> Target:
        """Where requests go. Raises Unusable when boto3 lacks a region or credentials."""
        return target.parse(self._prepared([Payload("", "application/octet-stream", b"")], None)[0].url)

    def wires(self, payloads: Sequence[Payload], carrier: Carrier) -> tuple[Wire, ...]:
        """A request for each payload, signed now. Raises Unusable when boto3 lacks a region or credentials."""
        requests = self._prepared(payloads, dict(carrier.request_headers).get(ATTRIBUTES))
        return tuple(_wire(payload, request) for payload, request in zip(payloads, requests, strict=True))

    def _prepared(self, payloads: Sequence[Payload], attributes: str | None) -> list[Any]:
        """The signed requests of boto3 (``method``, ``url``, ``headers``)."""
        boto3, botocore, failures = _boto3()
        prepared: list[Any] = []
        current = payloads[0]

        def instead_of_sending(request: Any, **_: Any) -> Any:
            prepared.append(request)
            return botocore.awsrequest.AWSResponse(request.url, 200, {"Content-Length": "0"}, _Nothing())

        def add_headers(request: Any, **_: Any) -> None:
            for name, value in current.headers:
                request.headers.add_header(name, value)

        asked = {} if attributes is None else {"CustomAttributes": attributes}
        once = botocore.config.Config(retries={"total_max_attempts": 1})
        try:
            session = boto3.session.Session()  # the default session keeps the first credentials that it finds
            client = session.client("sagemaker-runtime", region_name=self.region, endpoint_url=self.url, config=once)
            events = client.meta.events
            events.register("before-sign.sagemaker-runtime.InvokeEndpoint", add_headers)
            events.register("before-send.sagemaker-runtime.InvokeEndpoint", instead_of_sending)
            for current in payloads:
                body, kind = current.body, current.content_type
                client.invoke_endpoint(EndpointName=self.name, Body=body, ContentType=kind, **asked)
        except failures as error:
            raise Unusable(f"boto3 cannot ask the endpoint {self.name!r}: {error}") from error
        return prepared


def _wire(payload: Payload, request: Any) -> Wire:
    parts = urlsplit(request.url)
    headers = {str(name): _text(value) for name, value in request.headers.items()}
    kept = {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}
    head = [
        f"{request.method} {parts.path}{'?' + parts.query if parts.query else ''} HTTP/1.1",
        f"Host: {headers.get('Host', parts.netloc)}",
        f"Content-Length: {len(payload.body)}",
        *(f"{name}: {value}" for name, value in kept.items()),
        "",
        "",
    ]
    return Wire(("\r\n".join(head).encode("ascii") + payload.body,), len(payload.body))


def parse(text: str, region: str | None, url: str | None) -> Endpoint:
    """``sagemaker:NAME``. Raises Unusable."""
    name = text.removeprefix(PREFIX)
    if not name.replace("-", "").isalnum() or not name.isascii():
        raise Unusable(f"cannot read {text!r}: write sagemaker:NAME, a name of letters, digits and hyphens")
    return Endpoint(name, region, url)


class _Nothing:
    """The body of the response that boto3 gets instead of sending."""

    def read(self, *_: Any) -> bytes:
        return b""

    def stream(self, *_: Any, **__: Any) -> list[bytes]:
        return []


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value


def _boto3() -> tuple[Any, Any, tuple[type[Exception], ...]]:
    # Imported here: loads of anything else need no Amazon library.
    try:
        import boto3
        import botocore.awsrequest
        import botocore.config
        import botocore.exceptions
    except ImportError as error:
        raise Unusable("a sagemaker: target needs boto3: pip install boto3") from error
    # The service that lends a role's credentials may refuse before a request is signed.
    return boto3, botocore, (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, ValueError)
