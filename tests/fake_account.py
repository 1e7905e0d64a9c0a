"""An AWS account for tests: moto, and over it what moto lacks or gets wrong. No call leaves the machine.

Where moto differs from the service, this fake answers instead (checked against moto 5.2.5):

- moto has no UpdateEndpoint and no inference components; here they exist, with the times and outcomes of a test.
- moto's endpoints are InService at once; here they are Creating or Updating for ``looks`` looks.
- moto overwrites models, configurations and endpoints of the same name; the service refuses them.
- moto forgets ShadowProductionVariants; here DescribeEndpointConfig returns them.
- moto refuses variants without a model, and auto scaling of inference components; here they work.
- moto keeps scaling policies of a scalable target that is deregistered; the service deletes them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.awsrequest
import botocore.httpsession
import botocore.loaders
import botocore.session
from moto import mock_aws
from moto.applicationautoscaling.models import applicationautoscaling_backends
from moto.sagemaker.models import FakeEndpointConfig, sagemaker_backends

ACCOUNT, REGION = "123456789012", "eu-central-1"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/slipway:1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/sagemaker"

COPIES = "sagemaker:inference-component:DesiredCopyCount"
READING = ("Describe", "List", "Get", "Head", "Invoke")
Answer = tuple[Any, dict[str, Any]] | None


@dataclass
class FakeAccount:
    """``looks``: how often an endpoint is seen on its way. ``fails``: reason why the next deployment fails.

    ``refuses``: operation to code and message of its error; ``sent``: operations that reached the account.
    """

    looks: int = 1
    fails: str = ""
    refuses: dict[str, tuple[str, str]] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    pending: dict[str, tuple[int, str, str, str]] = field(default_factory=dict)
    """Endpoint to looks left, final status, final configuration and reason of failure."""
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    components: dict[str, dict[str, Any]] = field(default_factory=dict)
    prices: list[str] = field(default_factory=list)
    copies: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Auto scaling of inference components: resource to its target and policy."""

    @property
    def backend(self) -> Any:
        return sagemaker_backends[ACCOUNT][REGION]

    @property
    def changes(self) -> list[str]:
        """The operations that changed something."""
        return [name for name in self.sent if not name.startswith(READING)]

    def state(self) -> dict[str, Any]:
        """What exists, for comparisons."""
        s3 = boto3.client("s3", region_name=REGION)
        scaling = applicationautoscaling_backends[ACCOUNT][REGION]
        keys = [
            f"{bucket['Name']}/{one['Key']}"
            for bucket in s3.list_buckets()["Buckets"]
            for one in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", [])
        ]
        alarms = boto3.client("cloudwatch", region_name=REGION).describe_alarms()["MetricAlarms"]
        return {
            "models": sorted(self.backend._models),
            "configs": sorted(self.backend.endpoint_configs),
            "endpoints": {
                name: (one.endpoint_status, one.endpoint_config_name) for name, one in self.backend.endpoints.items()
            },
            "components": {name: one["Specification"]["ModelName"] for name, one in self.components.items()},
            "objects": sorted(keys),
            "scaling": sorted([*(one for targets in scaling.targets.values() for one in targets), *self.copies]),
            "policies": sorted(scaling.policies),
            "alarms": sorted(one["AlarmName"] for one in alarms),
        }

    def remove_buckets(self) -> None:
        """Buckets outlive deployments."""
        s3 = boto3.client("s3", region_name=REGION)
        for bucket in s3.list_buckets()["Buckets"]:
            s3.delete_bucket(Bucket=bucket["Name"])

    def before(self, model: Any, params: dict[str, Any], **_: Any) -> Answer:
        """Answers a call instead of moto, or leaves it to moto (None)."""
        name = model.name
        self.sent.append(name)
        if name in self.refuses:
            return _error(*self.refuses[name])
        service = model.service_model.service_name
        if name == "GetProducts":
            return _ok({"PriceList": self.prices})
        handler = getattr(self, f"_{name}", None)
        if handler is None or service not in ("sagemaker", "application-autoscaling"):
            return None
        asked = json.loads(params["body"])
        if service == "application-autoscaling" and asked.get("ScalableDimension") != COPIES:
            return None
        answer: Answer = handler(asked)
        return answer

    def after(self, parsed: dict[str, Any], model: Any, **_: Any) -> None:
        """Completes moto's answers."""
        if model.name == "CreateEndpoint" and "Error" not in parsed:
            name = parsed["EndpointArn"].rpartition("/")[2]
            final = "Failed" if self.fails else "InService"
            self._begin(name, "Creating", final, self.backend.endpoints[name].endpoint_config_name)
        if model.name == "DescribeEndpointConfig" and "Error" not in parsed:
            created = self.configs.get(parsed["EndpointConfigName"], {})
            if "ShadowProductionVariants" in created:
                parsed["ShadowProductionVariants"] = created["ShadowProductionVariants"]
        if model.name == "DeregisterScalableTarget":
            scaling = applicationautoscaling_backends[ACCOUNT][REGION]
            left = {target for targets in scaling.targets.values() for target in targets}
            for key in [key for key, one in scaling.policies.items() if one.resource_id not in left]:
                del scaling.policies[key]

    def _begin(self, name: str, status: str, final: str, config: str) -> None:
        self.backend.endpoints[name].endpoint_status = status
        self.pending[name] = (self.looks, final, config, self.fails)

    def _DescribeEndpoint(self, asked: dict[str, Any]) -> Answer:  # noqa: N802 - the name of the operation
        name = asked["EndpointName"]
        if name in self.pending:
            left, final, config, reason = self.pending[name]
            if left > 0:
                self.pending[name] = (left - 1, final, config, reason)
            else:
                del self.pending[name]
                endpoint = self.backend.endpoints[name]
                endpoint.endpoint_status, endpoint.endpoint_config_name = final, config
                endpoint.failure_reason = reason or None
        return None

    def _CreateModel(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        there = asked["ModelName"] in self.backend._models
        return _exists("model", asked["ModelName"]) if there else None

    def _CreateEndpointConfig(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        name = asked["EndpointConfigName"]
        if name in self.backend.endpoint_configs:
            return _exists("endpoint configuration", name)
        self.configs[name] = asked
        variants = asked["ProductionVariants"]
        if all("ModelName" in variant for variant in variants):
            return None
        made = FakeEndpointConfig(ACCOUNT, REGION, name, variants, {}, {}, asked["Tags"], "")  # type: ignore[abstract]
        self.backend.endpoint_configs[name] = made
        return _ok({"EndpointConfigArn": made.endpoint_config_arn})

    def _CreateEndpoint(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        there = asked["EndpointName"] in self.backend.endpoints
        return _exists("endpoint", asked["EndpointName"]) if there else None

    def _DeleteEndpoint(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        if asked["EndpointName"] in self.pending:
            return _error("ValidationException", f"Cannot update in-progress endpoint {asked['EndpointName']}.")
        return None

    def _UpdateEndpoint(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        name, config = asked["EndpointName"], asked["EndpointConfigName"]
        endpoint = self.backend.endpoints.get(name)
        if endpoint is None:
            return _error("ValidationException", f"Could not find endpoint '{name}'.")
        if name in self.pending:
            return _error("ValidationException", f"Cannot update in-progress endpoint '{name}'.")
        if config not in self.backend.endpoint_configs:
            return _error("ValidationException", f"Could not find endpoint configuration '{config}'.")
        # A failed update is rolled back: the endpoint is in service with the configuration that it had.
        self._begin(name, "Updating", "InService", endpoint.endpoint_config_name if self.fails else config)
        return _ok({"EndpointArn": endpoint.arn})

    def _CreateInferenceComponent(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        name = asked["InferenceComponentName"]
        if name in self.components:
            return _exists("inference component", name)
        self.components[name] = asked
        return _ok({"InferenceComponentArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:inference-component/{name}"})

    def _UpdateInferenceComponent(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        name = asked["InferenceComponentName"]
        self.components[name] = {**self.components[name], **asked}
        return _ok({"InferenceComponentArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:inference-component/{name}"})

    def _DescribeInferenceComponent(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        name = asked["InferenceComponentName"]
        if name not in self.components:
            return _error("ValidationException", f'Could not find inference component "{name}".')
        one = self.components[name]
        return _ok(
            {
                "InferenceComponentName": name,
                "InferenceComponentStatus": "InService",
                "Specification": one["Specification"],
                "RuntimeConfig": {"DesiredCopyCount": one["RuntimeConfig"]["CopyCount"]},
            }
        )

    def _RegisterScalableTarget(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        self.copies[asked["ResourceId"]] = {"target": asked}
        return _ok({})

    def _DescribeScalableTargets(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        return _ok(
            {"ScalableTargets": [self.copies[key]["target"] for key in asked["ResourceIds"] if key in self.copies]}
        )

    def _DeregisterScalableTarget(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        del self.copies[asked["ResourceId"]]
        return _ok({})

    def _PutScalingPolicy(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        self.copies[asked["ResourceId"]]["policy"] = asked
        return _ok({})

    def _DescribeScalingPolicies(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        policy = self.copies.get(asked["ResourceId"], {}).get("policy")
        return _ok({"ScalingPolicies": [policy] if policy is not None else []})

    def _DeleteScalingPolicy(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        del self.copies[asked["ResourceId"]]["policy"]
        return _ok({})

    def _UpdateInferenceComponentRuntimeConfig(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        self.components[asked["InferenceComponentName"]]["RuntimeConfig"] = asked["DesiredRuntimeConfig"]
        return _ok({})

    def _DeleteInferenceComponent(self, asked: dict[str, Any]) -> Answer:  # noqa: N802
        del self.components[asked["InferenceComponentName"]]
        return _ok({})


def _ok(parsed: dict[str, Any]) -> Answer:
    return SimpleNamespace(status_code=200), {**parsed, "ResponseMetadata": {"HTTPStatusCode": 200}}


def _error(code: str, message: str) -> Answer:
    error = {"Code": code, "Message": message}
    return SimpleNamespace(status_code=400), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}


def _exists(kind: str, name: str) -> Answer:
    return _error("ValidationException", f"Cannot create already existing {kind} '{name}'.")


@functools.cache
def _loader() -> botocore.loaders.Loader:
    """Keeps the models of the services, of which the largest take half a second to read."""
    return botocore.loaders.create_loader()


@contextmanager
def fake_account(monkeypatch: Any) -> Iterator[FakeAccount]:
    """An empty account with credentials in the environment; real connections raise AssertionError."""

    def refuse(_: Any, request: Any) -> Any:
        raise AssertionError(f"a call leaves the machine: {request.url}")

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", refuse)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    account = FakeAccount()
    with mock_aws():
        session = botocore.session.get_session()
        session.register_component("data_loader", _loader())
        boto3.setup_default_session(botocore_session=session)
        assert boto3.DEFAULT_SESSION is not None
        boto3.DEFAULT_SESSION.events.register("before-call.*.*", account.before)
        boto3.DEFAULT_SESSION.events.register("after-call.*.*", account.after)
        # A client takes 0.1 s to make, and holds no state of the account.
        made: dict[tuple[str, str | None], Any] = {}
        make = boto3.client

        def client(service: str, region_name: str | None = None, **more: Any) -> Any:
            if (service, region_name) not in made:
                made[service, region_name] = make(service, region_name=region_name, **more)
            return made[service, region_name]

        monkeypatch.setattr(boto3, "client", client)
        try:
            yield account
        finally:
            boto3.DEFAULT_SESSION = None
