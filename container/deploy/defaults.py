"""The defaults of a description: what follows from the manifest, a result of ``bench plan``, and names."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.artifact import MANIFEST, Manifest
from server.doctor.host import needed_bytes
from server.target import CPU

from .description import SETTINGS, Description, Given
from .errors import InvalidDescription
from .model_source import REMOTE, ModelFile, ModelSource

PLAN_SCHEMA = "slipway.bench.plan/1"
MIB = 1_048_576
NAME_CHARACTERS = 50
"""Longest name of a deployment: a hyphen and a digest of ten characters follow it in names of at most 63."""

CPU_TYPES = (("large", 2, 4), ("xlarge", 4, 8), ("2xlarge", 8, 16), ("4xlarge", 16, 32), ("9xlarge", 36, 72))
"""Sizes of the family ml.c5 with cores and GiB of memory."""
GPU_TYPES = ((75, "ml.g4dn.xlarge"), (86, "ml.g5.xlarge"), (89, "ml.g6.xlarge"), (90, "ml.p5.4xlarge"))
"""Compute capability to the smallest instance type that has it."""
SLIPWAY_AMI = "al2023-ami-sagemaker-inference-gpu-4-1"
HOST_IMAGES = (
    (535, "al2-ami-sagemaker-inference-gpu-2-1"),
    (550, "al2-ami-sagemaker-inference-gpu-3-1"),
    (580, SLIPWAY_AMI),
)
"""Major version of the NVIDIA driver to the InferenceAmiVersion that has it."""

LOAD_BYTES_PER_S = DOWNLOAD_BYTES_PER_S = 10_000_000
"""Slow estimates: a time limit that is too long costs nothing when all goes well."""
START_S, DOWNLOAD_S, LONGEST_S = 120, 60, 3_600
GPU_START_S = 480
"""Engines are built and kernels chosen before the first ping."""
RAY_DASHBOARD, RAY_VARIABLE = "http://127.0.0.1:8265", "RAY_DASHBOARD_ADDRESS"
RAY_PORT = 8000
SLOW = 10.0
"""Default objective of a canary, as a multiple of the manifest's p95."""

ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(?P<repository>[^:@]+)"
)

Found = tuple[Any, str] | None
"""A value and its origin; None: no default."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What defaults are derived from. ``plan``: a result of ``bench plan``. ``environ``: of this process."""

    source: ModelSource | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def model(self) -> ModelFile | None:
        """The single model of this machine."""
        return self.source.files.get("") if self.source is not None else None

    @property
    def manifest(self) -> Manifest | None:
        return self.source.manifest if self.source is not None else None

    @property
    def cores(self) -> int:
        """Threads of all instances of the model, at least 1."""
        batching = self.manifest.batching if self.manifest is not None else None
        return max(batching.instances * batching.threads, 1) if batching is not None else 1

    @property
    def memory_mib(self) -> int:
        size = self.source.bytes if self.source is not None else None
        return math.ceil(needed_bytes(size or 0) / MIB)

    @property
    def gpu(self) -> bool:
        return self.manifest is not None and self.manifest.device.kind != CPU


def complete(given: Mapping[str, Given], facts: Facts) -> Description:
    """The description with its defaults. Raises InvalidDescription for a name or an account that cannot be derived."""
    values = {name: one.value for name, one in given.items()}
    sources = {name: one.origin for name, one in given.items()}
    for name, declared in SETTINGS.items():
        if name in values:
            continue
        found = DERIVED[name](facts, values) if name in DERIVED else None
        if found is not None:
            values[name], sources[name] = found
        else:
            sources[name] = declared.metadata["why"] if name not in DERIVED else "default: none"
    return Description(**values, sources=sources)


def read_plan(path: str | None) -> dict[str, Any]:
    """A result of ``bench plan --output``. Raises InvalidDescription for another file."""
    if path is None:
        return {}
    try:
        document = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidDescription(f"--bench-plan {path} cannot be read: {error}") from error
    wanted = ("instances", "target_per_instance", "price_per_hour", "capacity_per_s", "safety_factor", "binds")
    if (
        not isinstance(document, dict)
        or document.get("schema") != PLAN_SCHEMA
        or not all(n in document for n in wanted)
    ):
        raise InvalidDescription(f"--bench-plan {path} is no result of bench plan: run bench plan --output {path}")
    return document


def _name(facts: Facts, values: Mapping[str, Any]) -> Found:
    if facts.manifest is not None and not values.get("multi_model"):
        text, origin = facts.manifest.name, f"{MANIFEST}: name"
    elif values.get("group") and not values.get("artifact"):
        text, origin = values["group"], "group"
    else:
        text, origin = Path(values.get("artifact", "")).name.removesuffix(".tar.gz"), "the name of ARTIFACT"
    name = re.sub(r"[^a-zA-Z0-9]+", "-", text).strip("-")[:NAME_CHARACTERS].strip("-")
    return (name, origin) if name else None


def _region(facts: Facts, values: Mapping[str, Any]) -> Found:
    image = ECR.match(values.get("image") or "")
    if image is not None:
        return image["region"], "the registry of the image"
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if facts.environ.get(variable):
            return facts.environ[variable], variable
    return _configured_region()


def _configured_region() -> Found:
    """The region of the AWS configuration file, where boto3 is installed."""
    try:
        import botocore.session
        from botocore.exceptions import BotoCoreError
    except ModuleNotFoundError:
        return None
    try:
        region = botocore.session.get_session().get_config_variable("region")
    except BotoCoreError:
        return None
    return (region, "the AWS configuration") if region else None


def _instance_type(facts: Facts, values: Mapping[str, Any]) -> Found:
    if values.get("serverless") is not None or values.get("engine", "sagemaker") != "sagemaker":
        return None
    if facts.gpu and facts.manifest is not None:
        device = facts.manifest.device
        exact = [one for capability, one in GPU_TYPES if device.sm in (0, capability) and capability >= device.least_sm]
        return (exact[0], f"{MANIFEST}: the smallest type that runs its {device.kind} model") if exact else None
    fits = [size for size, cores, memory in CPU_TYPES if cores >= facts.cores and memory * 1024 >= 2 * facts.memory_mib]
    if not fits:
        return None
    known = MANIFEST if facts.manifest is not None else "the model's files"
    return f"ml.c5.{fits[0]}", f"{known}: the smallest ml.c5 for {facts.cores} cores and twice {facts.memory_mib} MiB"


def _instance_count(facts: Facts, values: Mapping[str, Any]) -> Found:
    if facts.plan:
        text = (
            f"bench plan: {facts.plan['capacity_per_s']:g} requests/s each, used to {facts.plan['safety_factor']:.0%}"
        )
        return int(facts.plan["instances"]), f"{text}, because {facts.plan['binds']}"
    if values.get("min_instances"):
        return values["min_instances"], "min_instances"
    return 1, "default: one instance"


def _scaling_target(facts: Facts, _values: Mapping[str, Any]) -> Found:
    if not facts.plan:
        return None
    return float(facts.plan["target_per_instance"]), "bench plan: capacity under the objective x safety factor x 60"


def _min_instances(_facts: Facts, values: Mapping[str, Any]) -> Found:
    return (values["instance_count"], "instance_count") if values.get("max_instances") is not None else None


def _price(facts: Facts, _values: Mapping[str, Any]) -> Found:
    return (float(facts.plan["price_per_hour"]), "bench plan: price_per_hour") if facts.plan else None


def _network_isolation(_facts: Facts, values: Mapping[str, Any]) -> Found:
    if values.get("serverless") is not None:
        return False, "serverless endpoints have no network isolation"
    return True, SETTINGS["network_isolation"].metadata["why"]


def _limit(size: int | None, least_s: int, bytes_per_s: int, what: str) -> Found:
    if size is None:
        return None
    seconds = min(least_s + math.ceil(size / bytes_per_s), LONGEST_S)
    return seconds, f"{size / 1e6:.0f} MB of files: {least_s} s and {bytes_per_s / 1e6:.0f} MB/s for {what}"


def _startup_timeout(facts: Facts, values: Mapping[str, Any]) -> Found:
    if values.get("serverless") is not None or values.get("multi_model") or facts.source is None:
        return None
    return _limit(facts.source.bytes, GPU_START_S if facts.gpu else START_S, LOAD_BYTES_PER_S, "the load")


def _download_timeout(facts: Facts, values: Mapping[str, Any]) -> Found:
    if values.get("serverless") is not None or values.get("multi_model") or facts.source is None:
        return None
    return _limit(facts.source.bytes, DOWNLOAD_S, DOWNLOAD_BYTES_PER_S, "the download")


def _inference_ami(facts: Facts, values: Mapping[str, Any]) -> Found:
    if not is_gpu_type(values.get("instance_type") or ""):
        return None
    needed = facts.manifest.device.least_driver if facts.manifest is not None else 0
    if not needed:
        return SLIPWAY_AMI, "default: driver 580, which the GPU image needs; the platform's own default is older"
    fits = [one for driver, one in HOST_IMAGES if driver >= needed]
    return (fits[0], f"{MANIFEST}: the device needs driver {needed}") if fits else None


def _asynchronous_concurrency(facts: Facts, values: Mapping[str, Any]) -> Found:
    batching = facts.manifest.batching if facts.manifest is not None else None
    if values.get("asynchronous") is None or batching is None:
        return None
    filled = min(batching.instances * batching.max_batch_size, 1_000)
    return filled, f"{MANIFEST}: {batching.instances} instances x {batching.max_batch_size} rows fill every batch"


def _component(name: str) -> Callable[[Facts, Mapping[str, Any]], Found]:
    def found(facts: Facts, values: Mapping[str, Any]) -> Found:
        if not values.get("inference_component") and values.get("engine") != "ray":
            return None
        if name == "component_memory":
            return max(2 * facts.memory_mib, 128), f"twice the {facts.memory_mib} MiB that the model's files need"
        if name == "component_cpus":
            return float(facts.cores), f"{MANIFEST}: instances x threads" if facts.manifest else "default: one core"
        return (1, f"{MANIFEST}: device") if facts.gpu else None

    return found


def _objective_ms(facts: Facts, _values: Mapping[str, Any]) -> Found:
    if facts.manifest is None or not facts.manifest.cost:
        return None
    slowest = max(point.p95_us for point in facts.manifest.cost)
    return round(max(SLOW * slowest / 1e3, 10.0), 1), f"{MANIFEST}: {SLOW:g} times the p95 of its largest batch"


def _bucket(_facts: Facts, values: Mapping[str, Any]) -> Found:
    account = account_of(values.get("role"), values.get("image"))
    region = values.get("region")
    if account is None or region is None:
        return None
    return default_bucket(region, account), "the default bucket of SageMaker's SDKs, which SageMaker roles can read"


def default_bucket(region: str | None, account: str) -> str:
    """The bucket that SageMaker's SDKs use by default."""
    return f"sagemaker-{region}-{account}"


def _storage(_facts: Facts, values: Mapping[str, Any]) -> Found:
    if values.get("engine") == "ray":
        if not values.get("artifact"):
            return None
        return str(Path(values["artifact"]).resolve()), "artifact: the same path on every node"
    if values.get("engine") != "kubernetes" or not values.get("name"):
        return None
    if values.get("artifact", "").startswith(REMOTE):
        return values["artifact"], "artifact"
    return f"pvc://{values['name']}-model", "default: a claim of the plan, which you fill with the artifact's files"


def _port(_facts: Facts, values: Mapping[str, Any]) -> Found:
    if values.get("engine") == "ray":
        return RAY_PORT, "default: Ray Serve's own"
    return SETTINGS["port"].default, SETTINGS["port"].metadata["why"]


def _cluster(facts: Facts, values: Mapping[str, Any]) -> Found:
    if values.get("engine") != "ray":
        return None
    if facts.environ.get(RAY_VARIABLE):
        return facts.environ[RAY_VARIABLE], RAY_VARIABLE
    return RAY_DASHBOARD, "default: Ray's own, on this machine"


def _queue_rows(facts: Facts, values: Mapping[str, Any]) -> Found:
    if values.get("engine") != "ray" or facts.source is None:
        return None
    batching = facts.manifest.batching if facts.manifest is not None else None
    if batching is None:
        return 1.0, "default: one row, because the model says no batch size"
    rows = float(batching.instances * batching.max_batch_size)
    return rows, f"{MANIFEST}: a full batch waits for each of {batching.instances} instances"


def _group(_facts: Facts, values: Mapping[str, Any]) -> Found:
    return (values["name"], "name") if values.get("name") else None


def account_of(role: str | None, image: str | None) -> str | None:
    """The account in an ARN of a role, else that of the image's registry."""
    arn = re.fullmatch(r"arn:aws[a-z-]*:iam::(\d{12}):role/.+", role or "")
    if arn is not None:
        return arn[1]
    registry = ECR.match(image or "")
    return registry["account"] if registry is not None else None


def is_gpu_type(instance_type: str) -> bool:
    """Whether an instance type has NVIDIA GPUs."""
    return re.match(r"ml\.(g\d|p\d)", instance_type) is not None


DERIVED: Mapping[str, Callable[[Facts, Mapping[str, Any]], Found]] = {
    "name": _name,
    "region": _region,
    "instance_type": _instance_type,
    "instance_count": _instance_count,
    "asynchronous_concurrency": _asynchronous_concurrency,
    "component_cpus": _component("component_cpus"),
    "component_memory": _component("component_memory"),
    "component_accelerators": _component("component_accelerators"),
    "network_isolation": _network_isolation,
    "startup_timeout": _startup_timeout,
    "download_timeout": _download_timeout,
    "inference_ami": _inference_ami,
    "scaling_target": _scaling_target,
    "min_instances": _min_instances,
    "price": _price,
    "bucket": _bucket,
    "storage": _storage,
    "port": _port,
    "cluster": _cluster,
    "queue_rows": _queue_rows,
    "group": _group,
    "objective_ms": _objective_ms,
}
