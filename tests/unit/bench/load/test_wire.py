"""The bytes of a request: any route by a template, a SageMaker endpoint as boto3 asks it."""

from __future__ import annotations

import re
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from bench.errors import Unusable
from bench.load import sagemaker, target, wire
from bench.load.payload import Payload
from bench.load.server_timing import CARRIERS

PLACE = target.parse("h:8080/ask/{{number}}")
BODY = Payload("p", "text/plain", b'say "hi"', (("X-Kind", "text"),))


def split(data: bytes) -> tuple[list[str], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), body


def test_a_template_wraps_the_payload_and_numbers_the_request() -> None:
    form = wire.template(
        "PUT", ["content-type: application/json", "X-Key: a:b"], b'{"n": {{number}}, "t": {{payload_string}}}'
    )
    made = wire.render(PLACE, BODY, CARRIERS["none"], form)
    for number in (0, 41):
        head, body = split(made.numbered(number))
        assert head[0] == f"PUT /ask/{number:012d} HTTP/1.1"
        assert body == f'{{"n": {number:012d}, "t": "say \\"hi\\""}}'.encode()
        assert f"Content-Length: {len(body)}" in head
        assert made.body_bytes == len(body)
        assert [line for line in head if line.lower().startswith("content-type")] == ["Content-Type: application/json"]
        assert {"X-Key: a:b", "X-Kind: text"} <= set(head)


def test_a_payload_without_a_template_is_sent_as_it_is() -> None:
    made = wire.render(target.parse("h"), Payload("p", "t/t", b"{{number}}"), CARRIERS["none"])
    assert split(made.numbered(5))[1] == b"{{number}}"
    assert len(made.pieces) == 1


def test_bytes_go_in_base64() -> None:
    made = wire.render(
        PLACE, Payload("p", "t/t", b"\xff\x00"), CARRIERS["none"], wire.template("POST", [], b"[{{payload_base64}}]")
    )
    assert split(made.numbered(0))[1] == b"[/wA=]"
    with pytest.raises(Unusable, match="payload_base64"):
        wire.render(
            PLACE, Payload("p", "t/t", b"\xff"), CARRIERS["none"], wire.template("POST", [], b"{{payload_string}}")
        )


@pytest.mark.parametrize(
    ("method", "header"),
    [
        ("post", "A: b"),
        ("POST", "no colon"),
        ("POST", "A b: c"),
        ("POST", "A: b\r\nC: d"),
        ("POST", "Content-Length: 1"),
    ],
)
def test_a_template_cannot_break_the_request(method: str, header: str) -> None:
    with pytest.raises(Unusable):
        wire.template(method, [header], None)


@pytest.fixture
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not a secret")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("_credentials")
def test_boto3_makes_the_request_of_a_sagemaker_endpoint() -> None:
    endpoint = sagemaker.parse("sagemaker:my-endpoint", "eu-west-1", None)
    assert (
        endpoint.target().url == "https://runtime.sagemaker.eu-west-1.amazonaws.com/endpoints/my-endpoint/invocations"
    )
    first, second = endpoint.wires([BODY, Payload("q", "application/json", b"[1]")], CARRIERS["custom-attributes"])
    head, body = split(first.numbered(0))
    assert head[0] == "POST /endpoints/my-endpoint/invocations HTTP/1.1"
    assert body == BODY.body
    assert {
        "Host: runtime.sagemaker.eu-west-1.amazonaws.com",
        "Content-Type: text/plain",
        "X-Kind: text",
        f"Content-Length: {len(body)}",
        "X-Amzn-SageMaker-Custom-Attributes: slipway-timing",
    } <= set(head)
    (signature,) = [line for line in head if line.startswith("Authorization: ")]
    assert re.search(r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/\d{8}/eu-west-1/sagemaker/aws4_request", signature)
    assert split(second.numbered(0))[1] == b"[1]"


@pytest.mark.usefixtures("_credentials")
def test_boto3_is_asked_what_its_own_model_of_the_service_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore's stub checks every argument of InvokeEndpoint, and refuses in the words of the service."""
    make = boto3.session.Session.client
    stubs: list[Stubber] = []

    def stubbed(session: Any, *arguments: Any, **named: Any) -> Any:
        client = make(session, *arguments, **named)
        stubs.append(Stubber(client))
        stubs[0].add_client_error(
            "invoke_endpoint",
            "AccessDeniedException",
            "not yours",
            expected_params={
                "EndpointName": "my-endpoint",
                "Body": BODY.body,
                "ContentType": BODY.content_type,
                "CustomAttributes": "slipway-timing",
            },
        )
        stubs[0].activate()
        return client

    monkeypatch.setattr(boto3.session.Session, "client", stubbed)
    endpoint = sagemaker.parse("sagemaker:my-endpoint", "eu-west-1", None)
    with pytest.raises(Unusable, match=r"boto3 cannot ask the endpoint 'my-endpoint': .*not yours"):
        endpoint.wires([BODY], CARRIERS["custom-attributes"])
    stubs[0].assert_no_pending_responses()


@pytest.mark.usefixtures("_credentials")
def test_a_stand_in_takes_amazons_place() -> None:
    place = sagemaker.parse("sagemaker:e", "us-east-1", "http://127.0.0.1:8080").target()
    assert (place.host, place.port, place.tls) == ("127.0.0.1", 8080, False)


def test_an_endpoint_without_region_or_with_a_wrong_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(Unusable, match="region"):
        sagemaker.parse("sagemaker:e", None, None).target()
    with pytest.raises(Unusable, match="sagemaker:NAME"):
        sagemaker.parse("sagemaker:a/b", None, None)
