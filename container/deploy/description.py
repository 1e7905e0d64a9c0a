"""The description of a deployment: every setting with its value and where the value comes from.

A setting is declared once, as a field of :class:`Description`. Its flag is the field's name with hyphens. Its key in
``deploy.toml`` is the field's name, with underscores or hyphens. Flags override the file; the file overrides defaults.
"""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any

from .errors import InvalidDescription

FILE = "deploy.toml"
PATHS = ("artifact", "bench_plan")
ENGINE = "sagemaker"


def _setting(
    default: Any, text: str, why: str, *, metavar: str = "", choices: Sequence[str] = (), part_of: str = ""
) -> Any:
    """A field; ``why`` is the origin of its default. ``part_of``: it matters only where this setting has a value."""
    described = {"help": text, "why": why, "metavar": metavar, "choices": tuple(choices), "part_of": part_of}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=described)
    return field(default=default, metadata=described)


OFF, NONE, PLATFORM = "default: off", "default: none", "default: the platform's"


@dataclass(frozen=True, slots=True)
class Description:
    """What to deploy, and how. None: not set. ``sources``: setting to the origin of its value."""

    artifact: str = _setting("", "an artifact of optimize, a model folder, a model.tar.gz, or s3://...", "required")
    engine: str = _setting(ENGINE, "where to deploy", "default: sagemaker")
    name: str = _setting("", "name of the deployment and of its endpoint", "the manifest's name")
    region: str | None = _setting(None, "AWS region", "the image's registry, AWS_REGION, or the AWS configuration")
    image: str | None = _setting(None, "image that serves, as the engine pulls it", NONE, metavar="URI")
    role: str | None = _setting(None, "execution role of the model", NONE, metavar="ARN")

    instance_type: str | None = _setting(
        None, "instance type", "the manifest's threads, memory and device", metavar="T"
    )
    instance_count: int = _setting(1, "number of instances", "default: one instance")
    serverless: int | None = _setting(None, "memory of a serverless endpoint, which this makes it", OFF, metavar="MB")
    max_concurrency: int = _setting(
        5, "concurrent requests of a serverless endpoint", "default: 5", part_of="serverless"
    )
    provisioned_concurrency: int | None = _setting(None, "serverless workers kept warm", NONE, part_of="serverless")
    asynchronous: str | None = _setting(None, "asynchronous inference; prefix of its results", OFF, metavar="S3URI")
    asynchronous_concurrency: int | None = _setting(
        None, "concurrent asynchronous requests of an instance", "the manifest's instances and largest batch"
    )
    success_topic: str | None = _setting(None, "SNS topic of asynchronous results", NONE, metavar="ARN")
    error_topic: str | None = _setting(None, "SNS topic of asynchronous failures", NONE, metavar="ARN")
    multi_model: bool = _setting(False, "a multi-model endpoint; ARTIFACT is a folder of models", OFF)
    inference_component: bool = _setting(False, "deploy as an inference component of the endpoint", OFF)
    copies: int = _setting(1, "copies of the inference component", "default: one copy", part_of="inference_component")
    component_cpus: float | None = _setting(None, "processor cores of a copy", "the manifest's instances and threads")
    component_memory: int | None = _setting(None, "memory of a copy", "the manifest's files", metavar="MB")
    component_accelerators: int | None = _setting(None, "GPUs of a copy", "the manifest's device")

    environment: dict[str, str] = _setting({}, "variable of the container; repeatable", NONE, metavar="NAME=VALUE")  # noqa: RUF009
    tags: dict[str, str] = _setting({}, "tag of everything that is created; repeatable", NONE, metavar="KEY=VALUE")  # noqa: RUF009
    subnets: tuple[str, ...] = _setting((), "subnets of the VPC", NONE, metavar="IDS")
    security_groups: tuple[str, ...] = _setting((), "security groups in the VPC", NONE, metavar="IDS")
    network_isolation: bool = _setting(
        True, "no connections from the container", "default: the server makes no outbound calls"
    )
    kms_key: str | None = _setting(None, "key of volumes, captures and uploads", NONE, metavar="KEY")
    volume: int | None = _setting(None, "size of the volume of an instance", PLATFORM, metavar="GB")
    startup_timeout: int | None = _setting(
        None, "time until /ping must succeed", "the size of the manifest's files", metavar="S"
    )
    download_timeout: int | None = _setting(
        None, "time for the download of the model", "the size of the manifest's files", metavar="S"
    )
    inference_ami: str | None = _setting(
        None, "host image of GPU instances (InferenceAmiVersion)", "the driver that the manifest's device needs"
    )
    routing: str = _setting(
        "LEAST_OUTSTANDING_REQUESTS",
        "how requests are spread over instances",
        "default: a server with batches answers in unequal times",
        choices=("LEAST_OUTSTANDING_REQUESTS", "RANDOM"),
    )
    capture: str | None = _setting(None, "capture of requests and responses, to this prefix", OFF, metavar="S3URI")
    capture_percent: int = _setting(100, "share of requests that is captured", "default: all", part_of="capture")

    bench_plan: str | None = _setting(None, "result of bench plan --output", NONE, metavar="FILE")
    min_instances: int | None = _setting(None, "auto scaling: least instances", "the instance count")
    max_instances: int | None = _setting(None, "auto scaling: most instances; none: no scaling", NONE)
    scaling_target: float | None = _setting(None, "auto scaling: invocations per instance and minute", "bench plan")
    scale_out_cooldown: int = _setting(
        60, "seconds between additions", "default: as bench plan", metavar="S", part_of="max_instances"
    )
    scale_in_cooldown: int = _setting(
        600, "seconds between removals", "default: as bench plan", metavar="S", part_of="max_instances"
    )
    price: float | None = _setting(None, "price of an instance per hour", "bench plan, or the price list", metavar="P")

    bucket: str | None = _setting(
        None, "bucket of model archives", "the default bucket of SageMaker's SDKs", metavar="NAME"
    )
    storage: str | None = _setting(
        None,
        "where pods read the model: pvc://CLAIM/FOLDER, oci://IMAGE, s3://BUCKET/KEY; with Ray a path of the nodes",
        "the artifact",
        metavar="URI",
    )
    local_image: str | None = _setting(None, "image of this machine that push uploads as IMAGE", NONE)
    group: str | None = _setting(None, "model package group of the registry", "the name of the deployment")
    candidates: tuple[str, ...] = _setting(
        (), "further artifacts of the same model, registered beside it", NONE, metavar="DIRS"
    )
    specification: str | None = _setting(None, "registered candidate to deploy", "the artifact itself", metavar="NAME")
    objective_ms: float | None = _setting(
        None, "p99 latency above which a canary is rolled back", "ten times the manifest's p95", metavar="MS"
    )
    canary_percent: int = _setting(10, "share of capacity that a canary gets first", "default: 10")
    canary_minutes: int = _setting(10, "time that a canary is watched", "default: 10")
    shadow_percent: int = _setting(100, "share of requests that a shadow gets too", "default: all")
    state: str = _setting(
        "~/.local/state/slipway", "folder of the local engine", "default: the user's state folder", metavar="DIR"
    )
    port: int = _setting(
        8081, "port of the local engine's runtime API, or of Ray's proxies", "default: as container.local"
    )
    host: str = _setting(
        "127.0.0.1",
        "address that Ray's proxies listen on; 0.0.0.0: every address of a node",
        "default: only programs on the node itself are answered",
    )
    cluster: str | None = _setting(
        None, "address of Ray's dashboard", "RAY_DASHBOARD_ADDRESS, or Ray's own default", metavar="URL"
    )
    queue_rows: float | None = _setting(
        None,
        "auto scaling with Ray: waiting rows of a replica that ask for more",
        "the manifest's instances and largest batch",
        part_of="max_instances",
    )

    sources: Mapping[str, str] = field(default_factory=dict)

    def source(self, name: str) -> str:
        """The origin of a setting's value."""
        return self.sources.get(name, "")

    def shown(self) -> dict[str, Any]:
        """The settings that have a value and matter."""
        values = {name: getattr(self, name) for name in SETTINGS}
        return {
            name: value
            for name, value in values.items()
            if value not in (None, "", (), {}, False) and values.get(SETTINGS[name].metadata["part_of"] or name)
        }

    def require(self, *names: str) -> None:
        """Raises InvalidDescription for the first setting without a value."""
        for name in names:
            if getattr(self, name) in (None, ""):
                raise InvalidDescription(f"{_flag(name)} is missing: pass it, or write {name} = ... into {FILE}")


SETTINGS: Mapping[str, Field[Any]] = {one.name: one for one in fields(Description) if one.name != "sources"}
_TYPES = typing.get_type_hints(Description)


def kind(name: str) -> type:
    """The type of a setting's value without None: str, int, float, bool, tuple or dict."""
    declared = _TYPES[name]
    if isinstance(declared, UnionType):
        declared = next(one for one in typing.get_args(declared) if one is not type(None))
    found: type = typing.get_origin(declared) or declared
    return found


def _flag(name: str) -> str:
    return "ARTIFACT" if name == "artifact" else "--" + name.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Given:
    """A value as a person gave it. ``origin``: the flag, or the file and the key."""

    value: Any
    origin: str


def from_flags(values: Mapping[str, Any]) -> dict[str, Given]:
    """The settings that flags gave; None: not given."""
    return {
        name: Given(checked(name, value, _flag(name)), _flag(name))
        for name, value in values.items()
        if value is not None
    }


def from_file(path: Path) -> dict[str, Given]:
    """The settings of a file. Raises InvalidDescription with the key that is unknown or wrong."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidDescription(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidDescription(f"{path} is not TOML: {error}") from error
    given = {}
    for key, value in document.items():
        name = key.replace("-", "_")
        if name not in SETTINGS:
            raise InvalidDescription(f"{path}: unknown key {key!r}; keys are {', '.join(SETTINGS)}")
        if name in given:
            raise InvalidDescription(f"{path}: {key!r} stands there twice, with - and with _")
        value = checked(name, value, f"{path}: {key}")
        given[name] = Given(_beside(path, value) if name in PATHS else value, f"{path.name}: {key}")
    return given


def _beside(file: Path, value: str) -> str:
    """A path of a file is relative to the folder of the file."""
    return value if "://" in value or value.startswith("~") else str(file.parent / value)


def checked(name: str, value: Any, where: str) -> Any:
    """The value in the setting's type. Raises InvalidDescription, which begins with ``where``."""
    wanted = kind(name)
    choices = SETTINGS[name].metadata["choices"]
    if choices and value not in choices:
        raise InvalidDescription(f"{where} is {value!r}; choose {' or '.join(choices)}")
    if wanted is bool and isinstance(value, bool):
        return value
    if wanted is int and isinstance(value, int) and not isinstance(value, bool):
        return _not_negative(value, where)
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _not_negative(float(value), where)
    if wanted is str and isinstance(value, str):
        return value
    if wanted is tuple and isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return tuple(value)
    if wanted is dict and isinstance(value, dict) and all(isinstance(one, str) for one in value.values()):
        return dict(value)
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "a list of texts"}
    raise InvalidDescription(f"{where} is {str(value)[:60]!r}; it takes {words.get(wanted, 'a table of texts')}")


def _not_negative(value: Any, where: str) -> Any:
    if not 0 <= value < 1e9:
        raise InvalidDescription(f"{where} is {value}; it takes a number from 0 on")
    return value
