"""The wanted settings of a release, made of a description, and the settings that the local engine refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...local.attributes import ENDPOINT_NAME
from .. import rules
from ..calls import digest_of
from ..description import Description
from ..errors import InvalidDescription
from ..order import Order
from ..rules import MODES, Rule
from . import registry

STARTUP_S = 240
PROCESSES = "SLIPWAY_PROCESSES"
APART = ("model", "port", "instances")
"""Settings that are no part of a release: it may be copied from elsewhere, and they change without another one."""
USED = (
    *("artifact", "engine", "name", "local_image", "environment", "startup_timeout", "instance_count", "port", "state"),
    *("serverless", "max_concurrency", "asynchronous", "asynchronous_concurrency", "multi_model", "group"),
    *("canary_percent", "canary_minutes", "shadow_percent", "bench_plan", "price"),
)
"""The settings that this engine reads."""

RULES: tuple[Rule, ...] = (
    *MODES,
    (
        lambda d: d.inference_component,
        "the local engine has no inference components: leave out --inference-component, or use --multi-model",
    ),
    (
        lambda d: d.max_instances is not None,
        "the local engine does not scale by itself: leave out --max-instances, and give --instance-count",
    ),
    (
        lambda d: (d.success_topic or d.error_topic) is not None,
        "the local engine publishes to no topic: leave out --success-topic and --error-topic",
    ),
    (
        lambda d: d.capture is not None,
        "the local engine captures to a folder: leave out --capture, and pass --env SLIPWAY_CAPTURE_TO=FOLDER",
    ),
    (
        lambda d: d.provisioned_concurrency is not None,
        "a server of this machine is always warm: leave out --provisioned-concurrency",
    ),
    (
        lambda d: d.asynchronous is not None and re.fullmatch(r"s3://[^/]+(/.*)?", d.asynchronous) is None,
        "--asynchronous takes s3://BUCKET/PREFIX, which is a folder of this machine here",
    ),
    (
        lambda d: d.serverless is not None and (d.multi_model or d.asynchronous is not None),
        "a serverless endpoint serves one model in real time: leave out --multi-model and --asynchronous",
    ),
    (
        lambda d: d.serverless is not None and d.instance_count != 1,
        "a serverless endpoint has no instances: leave out --instance-count, or --serverless",
    ),
    (
        lambda d: d.instance_count > 1 and PROCESSES in d.environment,
        f"instances are the processes of the server: leave out --instance-count, or --env {PROCESSES}",
    ),
    (lambda d: ENDPOINT_NAME.problem(d.name) is not None, "--name takes at most 63 letters, digits and inner hyphens"),
)


def check(description: Description) -> None:
    """Raises InvalidDescription with a line for each refused setting."""
    rules.check(description, RULES)


def root(description: Description) -> Path:
    """The folder of all deployments, of the registry, and of the objects of asynchronous inference."""
    return Path(description.state).expanduser().resolve()


def settings(order: Order) -> dict[str, Any]:
    """The settings that the host runs. Raises InvalidDescription."""
    description = order.description
    check(description)
    model, digest = _model(order)
    modes = {
        "multi_model": description.multi_model,
        "serverless": description.serverless,
        "max_concurrency": description.max_concurrency if description.serverless is not None else None,
        "asynchronous": description.asynchronous,
        "asynchronous_concurrency": description.asynchronous_concurrency,
    }
    made = {
        "name": description.name,
        "image": description.local_image,
        "environment": dict(description.environment),
        "startup_s": description.startup_timeout or STARTUP_S,
        **{name: value for name, value in modes.items() if value},
        "digest": digest,
    }
    apart = {"model": str(model), "port": description.port, "instances": description.instance_count}
    return {**made, **apart, "release": release_of(made)}


def release_of(made: dict[str, Any]) -> str:
    """The name of a release: a digest of its settings."""
    return digest_of({name: value for name, value in made.items() if name not in APART})


def _model(order: Order) -> tuple[Path, str]:
    """The folder or archive to deploy, and its digest."""
    if order.from_registry:
        return registry.approved(order, root(order.description))
    source = order.facts.source
    if source is None or source.remote is not None:
        raise InvalidDescription("the local engine takes a model of this machine: pass a folder or its model.tar.gz")
    if order.description.multi_model:
        return Path(order.description.artifact).resolve(), source.digest
    return source.files[""].path.resolve(), source.files[""].digest
