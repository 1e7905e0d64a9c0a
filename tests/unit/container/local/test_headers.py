"""Which headers pass between caller and container."""

from __future__ import annotations

import pytest

from container.local import headers
from container.local.api_error import ApiError
from container.local.attributes import PREFIX


def test_only_listed_headers_reach_the_container() -> None:
    sent = [
        ("Content-Type", "text/csv"),
        ("Accept", "application/json"),
        ("Authorization", "AWS4-HMAC-SHA256 ..."),
        ("X-Trace", "1"),
        ("X-Amzn-SageMaker-Custom-Attributes", "a=1"),
        ("X-Amzn-SageMaker-Inference-Id", "call-7"),
        ("X-Amzn-SageMaker-Unheard-Of", "1"),
    ]
    assert headers.to_container(sent, "InvokeEndpoint") == {
        "content-type": "text/csv",
        "accept": "application/json",
        "x-amzn-sagemaker-custom-attributes": "a=1",
        "x-amzn-sagemaker-inference-id": "call-7",
        "x-amzn-sagemaker-forwarded-api": "InvokeEndpoint",
    }


def test_streams_and_asynchronous_calls_carry_types_under_other_names() -> None:
    sent = [("Content-Type", "text/csv"), ("Accept", "*/*"), ("X-Amzn-SageMaker-Accept", "application/jsonlines")]
    passed = headers.to_container(sent, "InvokeEndpointWithResponseStream")
    assert (passed["content-type"], passed["accept"]) == ("text/csv", "application/jsonlines")
    sent = [("Content-Type", "binary/octet-stream"), ("X-Amzn-SageMaker-Content-Type", "text/csv")]
    assert headers.to_container(sent, "InvokeEndpointAsync")["content-type"] == "text/csv"
    assert "content-type" not in headers.to_container(sent[:1], "InvokeEndpointAsync")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Custom-Attributes", "x" * 1_025),
        ("Custom-Attributes", "tab\t"),
        ("Inference-Id", "x" * 65),
        ("Session-Id", "x" * 257),
    ],
)
def test_values_beyond_the_apis_limits_are_refused(name: str, value: str) -> None:
    with pytest.raises(ApiError) as refused:
        headers.to_container([(f"X-Amzn-SageMaker-{name}", value)], "InvokeEndpoint")
    assert refused.value.kind == "ValidationError"


def test_only_listed_headers_reach_the_caller() -> None:
    answered = {"content-type": "text/csv", "server-timing": "x", "x-amzn-sagemaker-closed-session-id": "s"}
    assert headers.to_caller(answered, "AllTraffic") == {
        "content-type": "text/csv",
        "x-amzn-sagemaker-closed-session-id": "s",
        "x-Amzn-Invoked-Production-Variant": "AllTraffic",
    }


def test_headers_of_other_operations_do_not_reach_the_container() -> None:
    sent = [(PREFIX + name, "x") for name in ("session-id", "target-model", "enable-explanations", "filename")]
    assert set(headers.to_container(sent, headers.ASYNC)) == {headers.FORWARDED_API}
    assert PREFIX + "target-model" not in headers.to_container(sent, headers.STREAM)


def test_a_stream_cannot_open_a_session() -> None:
    with pytest.raises(ApiError, match="cannot open a session"):
        headers.to_container([(PREFIX + "session-id", "NEW_SESSION")], headers.STREAM)
