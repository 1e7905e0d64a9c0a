"""The objects of a plain deployment: Deployment, Service, autoscaler, disruption budget, claim and account."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..defaults import Facts
from ..description import Description
from ..errors import InvalidDescription
from . import pod, storage
from .storage import Storage

CPU_PERCENT = 70
"""Target of the autoscaler without a capacity of bench plan: below it the queue of a batching server stays short."""
REQUESTS = "slipway_requests_per_second"
"""The pods metric that a Prometheus adapter makes of slipway_requests_total (docs/deploy.md)."""
SERVICE_PORT = 80
REVISIONS = 3
NAME = re.compile(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?")
ANNOTATION = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
ROLE = "eks.amazonaws.com/role-arn"
BOTH = ("claim.yaml", "account.yaml")
"""Files that a deployment by KServe needs too."""
REFUSED = ("serverless", "asynchronous", "multi_model", "inference_component", "capture", "subnets")
"""Settings of SageMaker that would change what is served."""


def check(description: Description) -> None:
    """Raises InvalidDescription for what a cluster cannot do or refuses."""
    description.require("image", "name")
    if NAME.fullmatch(description.name) is None:
        raise InvalidDescription(
            f"--name {description.name}: in Kubernetes a name has at most 50 lower-case letters, digits and hyphens, "
            "and begins with a letter: pass another --name"
        )
    for name in REFUSED:
        if getattr(description, name) not in (None, False, ()):
            raise InvalidDescription(f"the engine kubernetes has no {name.replace('_', '-')}: leave it out")
    for key in description.tags:
        if ANNOTATION.fullmatch(key) is None:
            raise InvalidDescription(f"--tag {key}: it becomes an annotation, which takes letters, digits and -_.")
    for key in description.environment:
        if not key.isprintable() or "=" in key:
            raise InvalidDescription(f"--env {key!r}: a variable's name has printable characters other than =")
    least, most = description.min_instances, description.max_instances
    if most is not None and not 1 <= (least or 0) <= most:
        raise InvalidDescription(f"auto scaling from {least} to {most}: at least 1, and no more than --max-instances")


def labels(description: Description) -> dict[str, str]:
    """What selects the pods of a deployment."""
    return {"app.kubernetes.io/name": "slipway", "app.kubernetes.io/instance": description.name}


def thing(description: Description, api: str, kind: str, content: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """An object with our labels, and the user's tags as annotations."""
    metadata: dict[str, Any] = {
        "name": name or description.name,
        "labels": {**labels(description), "app.kubernetes.io/managed-by": "slipway"},
    }
    if description.tags:
        metadata["annotations"] = dict(description.tags)
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **content}


def files(description: Description, facts: Facts) -> dict[str, dict[str, Any]]:
    """File name to object, in the order in which they are applied."""
    place = storage.of(description)
    made = {}
    if place.claimed:
        size = facts.source.bytes if facts.source is not None else None
        content = {"spec": storage.claim_spec(size)}
        made["claim.yaml"] = thing(description, "v1", "PersistentVolumeClaim", content, place.claim)
    if place.kind == "s3":
        made["account.yaml"] = account(description)
    made["deployment.yaml"] = deployment(description, facts, place)
    made["service.yaml"] = service(description)
    if description.max_instances is not None:
        made["autoscaler.yaml"] = autoscaler(description)
    made["disruption-budget.yaml"] = disruption_budget(description)
    return made


def account(description: Description) -> dict[str, Any]:
    """The service account whose role reads the bucket."""
    made = thing(description, "v1", "ServiceAccount", {})
    if description.role is not None:
        made["metadata"].setdefault("annotations", {})[ROLE] = description.role
    return made


def deployment(description: Description, facts: Facts, place: Storage) -> dict[str, Any]:
    """The Deployment. With an autoscaler it names no count, which an apply would set back."""
    chosen = labels(description)
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/path": "/metrics",
        "prometheus.io/port": str(pod.port(description)),
    }
    spec: dict[str, Any] = {
        "revisionHistoryLimit": REVISIONS,
        "progressDeadlineSeconds": (description.startup_timeout or pod.STARTUP_S) + 120,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "selector": {"matchLabels": chosen},
        "template": {
            "metadata": {"labels": chosen, "annotations": annotations},
            "spec": pod.spec(description, facts, chosen, place),
        },
    }
    if description.max_instances is None:
        spec = {"replicas": description.instance_count, **spec}
    return thing(description, "apps/v1", "Deployment", {"spec": spec})


def service(description: Description) -> dict[str, Any]:
    """The Service inside the cluster."""
    ports = [{"name": "http", "port": SERVICE_PORT, "targetPort": "http", "appProtocol": "http"}]
    return thing(description, "v1", "Service", {"spec": {"selector": labels(description), "ports": ports}})


def autoscaler(description: Description) -> dict[str, Any]:
    """The HorizontalPodAutoscaler: on requests a second where a capacity is known, else on CPU."""
    if description.scaling_target is not None:
        average = f"{round(description.scaling_target / 60 * 1000)}m"
        pods = {"metric": {"name": REQUESTS}, "target": {"type": "AverageValue", "averageValue": average}}
        metric: dict[str, Any] = {"type": "Pods", "pods": pods}
    else:
        target = {"type": "Utilization", "averageUtilization": CPU_PERCENT}
        metric = {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": description.name},
        "minReplicas": description.min_instances,
        "maxReplicas": description.max_instances,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": _cooldown(description, "out")}]
            },
            "scaleDown": {"stabilizationWindowSeconds": min(description.scale_in_cooldown, 3_600)},
        },
    }
    return thing(description, "autoscaling/v2", "HorizontalPodAutoscaler", {"spec": spec})


def _cooldown(description: Description, direction: str) -> int:
    """Seconds of a scaling policy, which takes 1 to 1,800."""
    seconds: int = getattr(description, f"scale_{direction}_cooldown")
    return min(max(seconds, 1), 1_800)


def disruption_budget(description: Description) -> dict[str, Any]:
    """The PodDisruptionBudget: one pod at a time may be evicted."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": labels(description)}}
    return thing(description, "policy/v1", "PodDisruptionBudget", {"spec": spec})
