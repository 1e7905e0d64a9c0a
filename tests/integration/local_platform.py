"""The local platform inside of a test: something hosted, its runtime API on a free port, and a real client of it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config as ClientConfig

from container.local.asynchronous import AsyncInferenceConfig, AsyncInvocations
from container.local.endpoint import Endpoint
from container.local.hosting import Hosting, HostingPlan
from container.local.limits import PlatformLimits
from container.local.runtime import Runtime, listening
from container.local.store import ObjectStore
from container.local.targets import TargetModels
from tests.integration.server_process import ROOT

FAKE = str(ROOT / "tests" / "fake_container.py")
PROMPT = {"SLIPWAY_DRAIN_GRACE_S": "0"}
"""The grace is for load balancers; here it would only be waited out."""


def pretending(behaviour: str, limits: PlatformLimits | None = None, *, multi_model: bool = False) -> HostingPlan:
    """A container without a model; see ``tests/fake_container.py``."""
    command = [sys.executable, FAKE, behaviour]
    return HostingPlan(None, multi_model=multi_model, limits=limits or PlatformLimits(), command=command)


@dataclass(frozen=True, slots=True)
class Local:
    """One endpoint that is in service."""

    client: Any
    hosting: Hosting
    endpoint: Endpoint
    targets: TargetModels | None
    events: list[str]
    url: str

    def ask(self, body: bytes, content_type: str = "text/csv", **more: Any) -> Any:
        return self.client.invoke_endpoint(EndpointName="local", ContentType=content_type, Body=body, **more)


@contextmanager
def hosted(plan: HostingPlan, directory: Path, models: Path | None = None) -> Iterator[Local]:
    """Start, serve, end. ``models``: the folder of a multi-model endpoint."""
    events: list[str] = []
    with ExitStack() as stack:
        hosting = Hosting(plan, directory / "workspace", events.append)
        hosting.start()
        stack.callback(hosting.stop)
        targets = None
        if models is not None:
            targets = TargetModels(
                models,
                hosting.models_host_path,
                hosting.models_container_path,
                hosting.address,
                plan.limits,
                events.append,
                "local",
            )
            stack.callback(targets.close)
            targets.verify_protocol()
        endpoint = Endpoint("local", hosting, targets)
        asynchronous = AsyncInvocations(endpoint, ObjectStore(directory / "s3"), AsyncInferenceConfig(), events.append)
        stack.callback(asynchronous.close)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        url = stack.enter_context(listening(Runtime(endpoint, asynchronous), listener))
        client = _client(url)
        stack.callback(client.close)
        yield Local(client, hosting, endpoint, targets, events, url)


def _client(url: str) -> Any:
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=url,
        region_name="eu-central-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        # Every answer is looked at as it came; pings of one test must not slow down the next.
        config=ClientConfig(retries={"total_max_attempts": 1}, read_timeout=30),
    )
