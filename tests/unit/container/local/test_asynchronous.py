"""The queue of asynchronous calls: what may wait, how long, and under which names results are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from container.local.api_error import ApiError
from container.local.asynchronous import AsyncInferenceConfig, AsyncInvocations
from container.local.call import ContainerResponse
from container.local.endpoint import Endpoint
from container.local.store import ObjectStore

WIRE = "X-Amzn-SageMaker-"


class Echo:
    """In the place of an endpoint; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, str, float | None]] = []

    def invoke(self, sent: Any, body: bytes, api: str, within_s: float | None) -> ContainerResponse:
        self.asked.append((body, api, within_s))
        return ContainerResponse(200, {}, body[::-1])


def queue(root: Path, echo: Echo, *times: float) -> tuple[AsyncInvocations, Callable[[], None]]:
    """The queue, and what waits until it is empty."""
    clock = iter(times)
    made = AsyncInvocations(
        cast("Endpoint", echo), ObjectStore(root), AsyncInferenceConfig(), lambda _: None, lambda: next(clock)
    )
    return made, lambda: made._workers.shutdown(wait=True)


def test_a_result_is_at_its_output_location(tmp_path: Path) -> None:
    echo = Echo()
    asynchronous, wait = queue(tmp_path, echo, 0, 1)
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "in.txt").write_bytes(b"abc")
    names = {"InputLocation": "s3://bucket/in.txt", "S3OutputPathExtension": "/deep/er/", "Filename": "out.txt"}
    names |= {"InvocationTimeoutSeconds": "3600"}
    accepted = asynchronous.accept([(WIRE + name, value) for name, value in names.items()], b"")
    wait()
    assert accepted.output == "s3://local/async-output/deep/er/out.txt"
    assert (tmp_path / "local/async-output/deep/er/out.txt").read_bytes() == b"cba"
    assert echo.asked == [(b"abc", "InvokeEndpointAsync", 3_600)]


def test_a_request_that_has_waited_too_long_is_not_run(tmp_path: Path) -> None:
    echo = Echo()
    asynchronous, wait = queue(tmp_path, echo, 0, 61)
    accepted = asynchronous.accept([(WIRE + "RequestTTLSeconds", "60")], b"x")
    wait()
    document = json.loads((tmp_path / accepted.failure.removeprefix("s3://")).read_bytes())
    assert "waited longer than RequestTTLSeconds" in document["Message"]
    assert echo.asked == []


def test_an_input_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    asynchronous, wait = queue(tmp_path, Echo(), 0, 0)
    accepted = asynchronous.accept([(WIRE + "InputLocation", "s3://bucket/absent")], b"")
    wait()
    assert b"cannot be read" in (tmp_path / accepted.failure.removeprefix("s3://")).read_bytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RequestTTLSeconds", "59"),
        ("InvocationTimeoutSeconds", "3601"),
        ("InvocationTimeoutSeconds", "-1"),
        ("S3OutputPathExtension", "../../../elsewhere"),
        ("S3OutputPathExtension", "s3://elsewhere"),
        ("Filename", "a/b"),
        ("Filename", "x" * 33),
        ("Inference-Id", " 7"),
        ("Custom-Attributes", "x" * 1_025),
        ("InputLocation", "ftp://bucket/key"),
    ],
)
def test_values_beyond_the_apis_limits_are_refused(tmp_path: Path, name: str, value: str) -> None:
    asynchronous, wait = queue(tmp_path, Echo(), 0)
    with pytest.raises(ApiError):
        asynchronous.accept([(WIRE + name, value)], b"x")
    wait()
