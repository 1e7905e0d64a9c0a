"""The pod that serves a model: its container, probes, resources, and the time that its end takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .. import drain
from ..defaults import Facts
from ..description import Description
from ..errors import InvalidDescription
from . import storage as stored
from .storage import Storage

PORT = 8080
PORT_VARIABLES = ("SLIPWAY_PORT", "SAGEMAKER_BIND_TO_PORT")
PRE_STOP_S = 5
"""Before SIGTERM: load balancers hear meanwhile that the pod ends."""
MARGIN_S = 5
STARTUP_S = 600
"""Where the size of the model is not known."""
PROBE_S = 5
LEAST_MEMORY_MIB = 256
USER = 10001
UNPRIVILEGED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def spec(description: Description, facts: Facts, labels: Mapping[str, str], storage: Storage) -> dict[str, Any]:
    """The spec of the pod."""
    one = container(description, facts)
    one["volumeMounts"] = [*stored.mounts(storage), {"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    before = stored.init_containers(storage, str(description.image), UNPRIVILEGED)
    made: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": termination_s(description),
        "securityContext": pod_security(),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": dict(labels)},
            }
        ],
        "containers": [one],
        "volumes": [*stored.volumes(storage), {"name": "tmp", "emptyDir": {}}],
    }
    if before:
        made |= {"initContainers": before, "serviceAccountName": description.name}
    return made


def pod_security() -> dict[str, Any]:
    """No root: the server needs no user of its own."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container(description: Description, facts: Facts, name: str = "slipway") -> dict[str, Any]:
    """The container without its mounts."""
    number = port(description)
    ping = {"httpGet": _get(description, "/ping"), "timeoutSeconds": 2}
    alive = {"httpGet": _get(description, "/v2/health/live"), "timeoutSeconds": 5}
    startup_s = description.startup_timeout or STARTUP_S
    made: dict[str, Any] = {
        "name": name,
        "image": description.image,
        "args": ["serve"],
        "ports": [{"name": "http", "containerPort": number}],
        "resources": resources(description, facts),
        "startupProbe": {**ping, "periodSeconds": 2, "failureThreshold": math.ceil(startup_s / 2)},
        "readinessProbe": {**ping, "periodSeconds": PROBE_S, "failureThreshold": 1},
        # /ping is 503 while the server drains or a model stalls; liveness asks only whether it responds.
        "livenessProbe": {**alive, "periodSeconds": 10, "failureThreshold": 6},
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_S}}},
        "securityContext": UNPRIVILEGED,
    }
    if description.environment:
        made["env"] = [{"name": name, "value": value} for name, value in description.environment.items()]
    return made


def _get(description: Description, path: str) -> dict[str, Any]:
    scheme = "HTTPS" if description.environment.get("SLIPWAY_TLS_CERT") else "HTTP"
    return {"path": path, "port": "http", "scheme": scheme}


def resources(description: Description, facts: Facts) -> dict[str, Any]:
    """Requests equal limits: the server sizes its threads by the CPU quota, and memory cannot be taken back."""
    cores = description.component_cpus or float(facts.cores)
    memory = description.component_memory or max(2 * facts.memory_mib, LEAST_MEMORY_MIB)
    gpus = description.component_accelerators or int(facts.gpu)
    amounts = {"cpu": f"{round(cores * 1000)}m" if cores % 1 else f"{cores:.0f}", "memory": f"{memory}Mi"}
    limits = {**amounts, "nvidia.com/gpu": str(gpus)} if gpus else amounts
    return {"requests": amounts, "limits": limits}


def port(description: Description) -> int:
    """The port of the server, which the environment may change."""
    for name in PORT_VARIABLES:
        if name in description.environment:
            text = description.environment[name]
            if not (text.isascii() and text.isdecimal() and 0 < int(text) < 65_536):
                raise InvalidDescription(f"--env {name}={text}: a port is a number from 1 to 65535")
            return int(text)
    return PORT


def termination_s(description: Description) -> int:
    """terminationGracePeriodSeconds: preStop, the server's grace and drain, and a margin."""
    return math.ceil(PRE_STOP_S + drain.grace_s(description) + drain.drain_s(description) + MARGIN_S)
