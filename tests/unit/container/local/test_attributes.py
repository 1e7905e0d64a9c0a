"""The attributes of the runtime API, against the service model that boto3 carries."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest

from container.local import attributes, headers
from container.local.attributes import ENDPOINT_NAME, PREFIX, REQUEST, RESPONSE

MODEL = botocore.session.get_session().get_service_model("sagemaker-runtime")
OPERATIONS = (headers.PLAIN, headers.STREAM, headers.ASYNC)


def members(operation: str, direction: str) -> dict[str, Any]:
    """The header members of an operation: plain lower-case header name to shape."""
    shape = getattr(MODEL.operation_model(operation), direction)
    found = {
        member.serialization["name"].lower(): (name, member)
        for name, member in shape.members.items()
        if member.serialization.get("location") == "header"
    }
    wire = headers.ON_THE_WIRE[operation] if direction == "input_shape" else {PREFIX + "content-type": "content-type"}
    return {wire.get(header, header): member for header, member in found.items()}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_request_attributes_have_the_names_and_lengths_of_the_service_model(operation: str) -> None:
    for header, (name, shape) in members(operation, "input_shape").items():
        if shape.type_name != "string":
            continue  # the two numbers of asynchronous requests
        assert (REQUEST[header].name, REQUEST[header].max_characters) == (name, shape.metadata["max"])
        assert header in headers.TO_CONTAINER[operation] or header in headers.TO_CONTAINER[headers.ASYNC] | {
            attributes.INPUT_LOCATION,
            attributes.OUTPUT_EXTENSION,
            attributes.FILENAME,
        }


@pytest.mark.parametrize("operation", OPERATIONS[:2])
def test_response_attributes_are_those_of_the_service_model(operation: str) -> None:
    for header, (name, shape) in members(operation, "output_shape").items():
        if header != headers.VARIANT.lower():
            assert (RESPONSE[header].name, RESPONSE[header].max_characters) == (name, shape.metadata["max"])


@pytest.mark.parametrize("operation", OPERATIONS[:2])
def test_only_the_headers_of_an_operation_reach_the_container(operation: str) -> None:
    assert headers.TO_CONTAINER[operation] == set(members(operation, "input_shape"))


@pytest.mark.parametrize(
    ("header", "valid", "invalid"),
    [
        ("content-type", ["text/csv; charset=utf-8", ""], ["é", "x" * 1_025]),
        ("accept", ["*/*"], ["é"]),
        (attributes.CUSTOM_ATTRIBUTES, ["a=1; b=2", "x" * 1_024], ["tab\t", "é", "x" * 1_025]),
        (attributes.TARGET_MODEL, ["a/b.tar.gz"], ["", " a", "x" * 1_025]),
        (attributes.TARGET_VARIANT, ["blue-1"], ["-blue", "blue-", "a_b", "x" * 64]),
        (attributes.TARGET_CONTAINER, ["first"], ["a.b", "x" * 64]),
        (attributes.INFERENCE_COMPONENT, ["part-1"], ["part_1", "x" * 64]),
        (attributes.INFERENCE_ID, ["call 7", "x" * 64], ["", " 7", "x" * 65]),
        (attributes.SESSION_ID, ["NEW_SESSION", "a-1", "x" * 256], ["OLD_SESSION", "a-", "x" * 257]),
        (PREFIX + "enable-explanations", ["`true`"], ["", "x" * 65]),
        (PREFIX + "prefix-aware-id", ["p"], ["", "x" * 65]),
        (attributes.INPUT_LOCATION, ["s3://bucket/key", "file:///tmp/x"], ["bucket/key", "s3://" + "x" * 1_024]),
        (attributes.OUTPUT_EXTENSION, ["a/b-1"], ["s3://b", "a b", "x" * 513]),
        (attributes.FILENAME, ["result.csv", "r-1"], ["a.b.c", ".a", "a b", "x" * 33]),
    ],
)
def test_patterns_of_request_attributes(header: str, valid: list[str], invalid: list[str]) -> None:
    assert [value for value in valid if REQUEST[header].problem(value)] == []
    assert [value for value in invalid if not REQUEST[header].problem(value)] == []


@pytest.mark.parametrize(
    ("header", "valid", "invalid"),
    [
        (
            attributes.NEW_SESSION_ID,
            ["a-1; Expires=2030-01-01T00:00:00Z"],
            ["a-1", "a_1; Expires=2030-01-01T00:00:00Z"],
        ),
        (attributes.CLOSED_SESSION_ID, ["a-1"], ["a_1", "x" * 257]),
        (attributes.CUSTOM_ATTRIBUTES, ["queue_ms=1"], ["x" * 1_025]),
    ],
)
def test_patterns_of_response_attributes(header: str, valid: list[str], invalid: list[str]) -> None:
    assert [value for value in valid if RESPONSE[header].problem(value)] == []
    assert [value for value in invalid if not RESPONSE[header].problem(value)] == []


def test_endpoint_names() -> None:
    assert ENDPOINT_NAME.problem("digits-1") is None
    assert ENDPOINT_NAME.problem("digits_1") is not None
    assert ENDPOINT_NAME.problem("x" * 64) is not None
