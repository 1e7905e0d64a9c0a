"""The combinations of settings that SageMaker refuses, each with one sentence that says what to change."""

from __future__ import annotations

import re
from collections.abc import Callable

from .. import rules
from ..defaults import Facts, account_of, is_gpu_type
from ..description import Description
from ..errors import InvalidDescription
from ..rules import MODES, Rule

LOCAL_DISK = re.compile(r"ml\.([a-z]+\d+[a-z]*d[a-z]*|g4dn|g5|g6e?|p4de?|p5e?n?|trn1n?|inf2)\.")
"""Instance families with a local disk, whose volumes take neither a key nor a size."""

NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,49}")


def _serverless(name: str) -> Callable[[Description], bool]:
    return lambda d: d.serverless is not None and bool(getattr(d, name))


RULES: tuple[Rule, ...] = (
    *MODES,
    (
        lambda d: d.serverless is not None and d.instance_type is not None,
        "--serverless has no instances: leave out --instance-type",
    ),
    (_serverless("multi_model"), "a serverless endpoint serves one model: leave out --multi-model or --serverless"),
    (_serverless("asynchronous"), "a serverless endpoint has no asynchronous inference: leave out one of the two"),
    (_serverless("inference_component"), "inference components need instances: leave out --serverless"),
    (_serverless("subnets"), "a serverless endpoint cannot be in a VPC: leave out --subnets and --security-groups"),
    (_serverless("network_isolation"), "a serverless endpoint has no network isolation: pass --no-network-isolation"),
    (_serverless("capture"), "a serverless endpoint has no data capture: leave out --capture"),
    (_serverless("kms_key"), "a serverless endpoint has no volume to encrypt: leave out --kms-key"),
    (_serverless("volume"), "a serverless endpoint has 5 GB of disk: leave out --volume"),
    (_serverless("startup_timeout"), "a serverless endpoint must start within 180 s: leave out --startup-timeout"),
    (_serverless("download_timeout"), "a serverless endpoint must start within 180 s: leave out --download-timeout"),
    (_serverless("max_instances"), "a serverless endpoint scales by itself: leave out --max-instances"),
    (_serverless("inference_ami"), "a serverless endpoint has no host image to choose: leave out --inference-ami"),
    (
        lambda d: (d.provisioned_concurrency or 0) > d.max_concurrency,
        "--provisioned-concurrency is larger than --max-concurrency",
    ),
    (
        lambda d: d.provisioned_concurrency is not None and d.serverless is None,
        "--provisioned-concurrency is for serverless endpoints: pass --serverless too",
    ),
    (
        lambda d: d.multi_model and d.inference_component,
        "an inference component holds one model: leave out --multi-model or --inference-component",
    ),
    (
        lambda d: d.inference_component and d.asynchronous is not None,
        "an endpoint with inference components has no asynchronous inference: leave out one of the two",
    ),
    (
        lambda d: d.asynchronous is None and (d.success_topic or d.error_topic) is not None,
        "--success-topic and --error-topic are for asynchronous inference: pass --asynchronous too",
    ),
    (lambda d: bool(d.subnets) != bool(d.security_groups), "a VPC needs both --subnets and --security-groups"),
    (
        lambda d: (
            d.inference_ami is not None and not (d.instance_type or "").startswith(("ml.g", "ml.p", "ml.inf", "ml.trn"))
        ),
        "--inference-ami is for instances with accelerators: leave it out",
    ),
    (
        lambda d: d.kms_key is not None and LOCAL_DISK.match(d.instance_type or "") is not None,
        "this instance type has a local disk, which takes no key and is encrypted by itself: leave out --kms-key",
    ),
    (
        lambda d: d.volume is not None and LOCAL_DISK.match(d.instance_type or "") is not None,
        "this instance type has a local disk of fixed size: leave out --volume",
    ),
    (
        lambda d: d.max_instances is not None and (d.min_instances or 0) > d.max_instances,
        "--min-instances is larger than --max-instances",
    ),
    (
        lambda d: d.max_instances is not None and not (d.min_instances or 0) <= d.instance_count <= d.max_instances,
        "--instance-count is outside of --min-instances and --max-instances",
    ),
    (
        lambda d: d.max_instances is not None and not d.scaling_target,
        "auto scaling needs a target: pass --bench-plan with a result of bench plan, or --scaling-target",
    ),
    (
        lambda d: d.max_instances is not None and d.min_instances == 0,
        "scaling to no instance needs inference components or a queue metric: pass --min-instances 1",
    ),
    (
        lambda d: d.role is not None and account_of(d.role, None) is None,
        "--role is not the ARN of a role: it begins with arn:aws:iam::ACCOUNT:role/",
    ),
    (lambda d: not 1 <= d.capture_percent <= 100, "--capture-percent takes 1 to 100"),
    (
        lambda d: any(key.startswith(("aws:", "slipway:")) for key in d.tags),
        "tags must not begin with aws: or slipway:, which are reserved",
    ),
    (lambda d: not NAME.fullmatch(d.name), "--name takes at most 50 letters, digits and inner hyphens"),
)


def check(description: Description, facts: Facts) -> None:
    """Raises InvalidDescription with a line for each reason; nothing was sent."""
    rules.check(description, RULES, _for_device(description, facts))


def _for_device(description: Description, facts: Facts) -> list[str]:
    gpu_model = facts.manifest is not None and facts.gpu
    if gpu_model and description.serverless is not None:
        return ["the artifact was made for a GPU, which serverless endpoints lack: optimize it for cpu"]
    if gpu_model and description.instance_type is not None and not is_gpu_type(description.instance_type):
        return [
            f"the artifact was made for a GPU, which {description.instance_type} lacks: choose an ml.g or ml.p type"
        ]
    source = facts.source
    if source is not None and source.remote is not None:
        if description.multi_model and not source.remote.endswith("/"):
            return ["a multi-model endpoint takes a prefix: end the s3:// address with /"]
        if not description.multi_model and not source.remote.endswith((".tar.gz", ".tgz")):
            return ["the s3:// address must be that of a model.tar.gz: pack it with python -m optimize package"]
    return []


def check_guarded(description: Description, kind: str) -> None:
    """Raises InvalidDescription where SageMaker has no canary, or no shadow, for this kind of endpoint."""
    if description.serverless is not None:
        raise InvalidDescription(f"a serverless endpoint has no {kind}: use update")
    if kind == "shadow" and (description.asynchronous is not None or description.multi_model):
        raise InvalidDescription("asynchronous and multi-model endpoints have no shadow: use canary")
    if description.inference_component:
        raise InvalidDescription(f"an endpoint with inference components has no {kind} of its variant: use update")
    if (description.instance_type or "").startswith("ml.inf1."):
        raise InvalidDescription(f"Inf1 instances have no {kind}: use update")
