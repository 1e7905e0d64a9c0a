"""The Serve application of a description: the object that ``serve deploy`` takes, and what Ray cannot do."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from .. import drain
from ..calls import digest_of
from ..defaults import MIB, Facts
from ..description import Description
from ..errors import InvalidDescription
from ..model_source import REMOTE

IMPORT_PATH = "container.deploy.ray.replica:application"
"""The builder of every application of this engine, by which it knows its own."""
POLICY = "container.deploy.ray.scaling:QueuePolicy"
DEPLOYMENT = "Slipway"
ONGOING = 1_000
"""Requests that a replica holds at once. The server's own admission decides which wait and which are refused."""
HEALTH_PERIOD_S, HEALTH_TIMEOUT_S = 2, 10
IDLE_POLL_S = 0.5
"""Interval at which a replica that ends checks for running requests."""
SURGE_PERCENT = 25
"""Share of the replicas, at least one, that a rolling update starts before it ends old ones."""
MARGIN_S = 10
STARTUP_S = 240
METRICS_S = 2
LOOK_BACK_S = 10
NAME = re.compile(r"[a-zA-Z0-9]([-_a-zA-Z0-9]{0,48}[a-zA-Z0-9])?")

USED = (
    *("artifact", "engine", "name", "storage", "cluster", "host", "port", "instance_count", "environment"),
    *("component_cpus", "component_memory", "component_accelerators", "startup_timeout"),
    *("min_instances", "max_instances", "queue_rows", "scale_out_cooldown", "scale_in_cooldown", "bench_plan"),
)
"""The settings that this engine reads."""
REFUSED = {
    "serverless": "it has no serverless endpoints",
    "asynchronous": "it has no asynchronous inference",
    "multi_model": "make one deployment of each model",
    "inference_component": "make one deployment of each model",
    "capture": "set the server's own with --env SLIPWAY_CAPTURE_TO=FOLDER",
    "subnets": "its nodes have their network already",
    "image": "its nodes run the Slipway that they have",
    "local_image": "its nodes run the Slipway that they have",
    "tags": "its applications have no tags",
}
"""Settings that would change what is served, and why they are not there."""
RESERVED = {
    "SLIPWAY_MODEL": "the model is ARTIFACT",
    "SLIPWAY_HOST": "a replica's server listens on its node only",
    "SLIPWAY_PORT": "a replica's server takes a free port",
    "SAGEMAKER_BIND_TO_PORT": "a replica's server takes a free port",
    "SLIPWAY_GRPC_PORT": "Ray's proxies pass HTTP on",
    "SLIPWAY_TLS_CERT": "Ray's proxies talk to it on its node without TLS",
    "SLIPWAY_TLS_KEY": "Ray's proxies talk to it on its node without TLS",
}


def check(description: Description) -> None:
    """Raises InvalidDescription for what Ray cannot do."""
    description.require("name", "cluster")
    if NAME.fullmatch(description.name) is None:
        raise InvalidDescription(
            f"--name {description.name}: it is a part of the URL; use at most 50 letters, digits and inner hyphens"
        )
    for name, why in REFUSED.items():
        if getattr(description, name) not in (None, False, (), {}):
            raise InvalidDescription(f"the engine ray has no {name.replace('_', '-')}: {why}; leave it out")
    for name, why in RESERVED.items():
        if name in description.environment:
            raise InvalidDescription(f"--env {name}: {why}; leave it out")
    least, most = description.min_instances, description.max_instances
    if most is None and description.instance_count < 1:
        raise InvalidDescription("--instance-count 0: a deployment has at least one replica; down removes it")
    if most is not None and not 1 <= (least or 0) <= most:
        raise InvalidDescription(f"auto scaling from {least} to {most}: at least 1, and no more than --max-instances")
    if most is not None and "SLIPWAY_API_KEYS_FILE" in description.environment:
        raise InvalidDescription(
            "--env SLIPWAY_API_KEYS_FILE with --max-instances: auto scaling reads the server's metrics, which would "
            "need a key; leave one out"
        )
    if most is not None and not description.queue_rows:
        raise InvalidDescription("--queue-rows 0: give the rows that may wait in a replica before another is added")


def application(description: Description, facts: Facts) -> dict[str, Any]:
    """The application, as an item of ``applications`` in a config file of Ray Serve. Raises InvalidDescription."""
    check(description)
    return {
        "name": description.name,
        "route_prefix": route(description),
        "import_path": IMPORT_PATH,
        "args": arguments(description, facts),
        "deployments": [deployment(description)],
    }


def route(description: Description) -> str:
    """The prefix of the deployment's URLs, behind which the server's own paths begin."""
    return f"/{description.name}"


def arguments(description: Description, facts: Facts) -> dict[str, Any]:
    """What the replicas get. Other arguments are another version, which replaces the replicas one after the other.

    ``release`` is the digest of the others.
    """
    source = facts.source
    if source is None or source.remote is not None or (description.storage or "").startswith(REMOTE):
        raise InvalidDescription(
            "the engine ray reads the model from a folder of each node: pass a folder or a model.tar.gz of this "
            "machine, and with --storage where the nodes have it"
        )
    content = {
        "model": description.storage,
        "digest": source.files[""].digest,
        "environment": dict(description.environment),
        "startup_s": description.startup_timeout or STARTUP_S,
        "drain_s": drain.drain_s(description),
    }
    return {"release": digest_of(content), **content}


def deployment(description: Description) -> dict[str, Any]:
    """The replicas: their number, their resources, and the time that each may take to start, answer and end."""
    actor: dict[str, Any] = {"num_cpus": description.component_cpus}
    if description.component_accelerators:
        actor["num_gpus"] = description.component_accelerators
    if description.component_memory:
        actor["memory"] = description.component_memory * MIB
    return {
        "name": DEPLOYMENT,
        **copies(description),
        "max_ongoing_requests": ONGOING,
        "health_check_period_s": HEALTH_PERIOD_S,
        "health_check_timeout_s": HEALTH_TIMEOUT_S,
        # The server's own log says what happens to requests.
        "logging_config": {"enable_access_log": False},
        "max_surge_percent": SURGE_PERCENT,
        "graceful_shutdown_wait_loop_s": IDLE_POLL_S,
        "graceful_shutdown_timeout_s": math.ceil(drain.drain_s(description)) + MARGIN_S,
        "ray_actor_options": actor,
    }


def copies(description: Description) -> dict[str, Any]:
    """The number of replicas, or the bounds and the policy of auto scaling."""
    if description.max_instances is None:
        return {"num_replicas": description.instance_count}
    return {
        "autoscaling_config": {
            "min_replicas": description.min_instances,
            "max_replicas": description.max_instances,
            "upscale_delay_s": description.scale_out_cooldown,
            "downscale_delay_s": description.scale_in_cooldown,
            "metrics_interval_s": METRICS_S,
            "look_back_period_s": LOOK_BACK_S,
            "policy": {"policy_function": POLICY, "policy_kwargs": {"queue_rows": description.queue_rows}},
        }
    }


def file(description: Description, facts: Facts) -> dict[str, Any]:
    """The config file that ``serve deploy`` takes. It replaces all applications of a cluster."""
    return {**options(description), "applications": [application(description, facts)]}


def options(description: Description) -> dict[str, Any]:
    """What takes effect only where Serve is not running yet."""
    return {"proxy_location": "EveryNode", "http_options": {"host": description.host, "port": description.port}}


def ours(found: Mapping[str, Any]) -> bool:
    """Whether an application that Ray reports is one of this engine."""
    return (found.get("deployed_app_config") or {}).get("import_path") == IMPORT_PATH
