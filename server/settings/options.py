"""The options: every setting declared once, with its default, group, platform aliases, limits and help text.

Longer than other files: one declaration a setting, and the page and the parser are made from them.

``reader`` fills them from flags, variables and files; ``documentation`` writes their page.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..target import DEVICES
from . import sagemaker as platform
from .sagemaker import Alias

PREFIX = "SLIPWAY_"
LOG_LEVELS = platform.LEVELS


def option(
    default: Any,
    text: str,
    *,
    group: str = "",
    aliases: tuple[Alias, ...] = (),
    choices: tuple[str, ...] = (),
    least: float | None = None,
    zero: str = "",
) -> Any:
    """Declare one option; its type is the default's. ``group``: of this option and of those after it that name none.
    ``zero``: a word that stands for 0."""
    metadata = {"text": text, "group": group, "aliases": aliases, "choices": choices, "least": least, "zero": zero}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The values that a server runs with. Plain data: read once, passed on."""

    model: str = option(
        "/opt/ml/model",
        "directory of an artifact or with a model.onnx in it, an ONNX file, or a folder NAME/VERSION/",
        group="model",
        aliases=(Alias("SAGEMAKER_BASE_DIR", platform.model_below),),
    )
    name: str = option("", "name that the model is served under; empty: the manifest's, or the folder's")
    default_model: str = option(
        "",
        "name of the model that answers /invocations; empty: the first",
        aliases=(Alias("SAGEMAKER_TRITON_DEFAULT_MODEL_NAME", str),),
    )
    keep_versions: int = option(
        1, "versions of each model in a folder that are loaded, from the highest down; 0: all", least=0
    )
    poll_s: float = option(
        0.0,
        "seconds between two polls of the model folder: changed models are loaded, removed ones unloaded; 0: no polls",
        least=0,
    )
    memory_budget_mb: float = option(
        0.0,
        "most memory that loaded models may take, in megabytes; 0: nine tenths of the container's limit, if it has one",
        least=0,
    )
    load_timeout_s: float = option(
        600.0,
        "longest load of a model in seconds; then it gets 504, its thread is given up, worker processes of its script "
        "are killed; 0: no limit",
        least=0,
    )
    probation_s: float = option(
        300.0,
        "seconds that a version is on probation after it took over: it is rolled back if it breaks the next two rules, "
        "or those of its canary, while the version before it is still loaded; 0: no probation",
        least=0,
    )
    probation_error_rate: float = option(
        0.1,
        "on probation: most failures by the model's fault, a share of answers above the version before; 0: no rule",
        least=0,
    )
    probation_latency: float = option(
        0.0,
        "on probation: largest p95, a multiple of the version before, where a canary measured both; 0: no rule",
        least=0,
    )
    verify_digests: bool = option(True, "compare every file with its SHA-256 in the manifest at load")

    scripts: bool = option(
        True, "run the code/inference.py of a model; off: models that contain a script are refused", group="script"
    )
    script_program: str = option(
        "inference.py",
        "file name of a model's script, in its folder code/ or beside it",
        aliases=(Alias("SAGEMAKER_PROGRAM", platform.file_name),),
    )
    script_directory: str = option(
        "",
        "folder of the script for models that contain none; /opt/ml/code is looked at after it",
        aliases=(
            Alias("SAGEMAKER_SUBMIT_DIRECTORY", platform.folder),
            Alias("SAGEMAKER_BASE_DIR", platform.code_below),
        ),
    )
    script_handler: str = option(
        "",
        "MODULE:ATTRIBUTE of the class or function that answers in the script; empty: found by its shape",
        aliases=(Alias("SAGEMAKER_HANDLER", str),),
    )
    script_workers: int = option(
        0, "worker processes that run a script; 0: threads of the server, as many as --instances", least=0
    )
    script_worker_mb: float = option(
        0.0,
        "most memory of a worker process in megabytes; then it is replaced between two requests; 0: no limit",
        least=0,
    )
    script_timeout_s: float = option(
        60.0,
        "longest run of a script in seconds; then its requests get 504, its thread is given up or its process killed",
        least=0.001,
    )
    script_shims: str = option(
        "missing",
        "when scripts import the server's replacements of the packages sagemaker_inference and mms",
        choices=("missing", "always", "never"),
    )
    script_install: bool = option(
        False, "install the requirements.txt of a script with pip at load; off: report missing packages"
    )

    admin: bool | None = option(
        None,
        "serve the routes that change models: /admin, /v2/repository; automatic: only where --host is a loopback "
        "address, where browsers need the token that is logged at start",
        group="http",
    )
    dashboard: bool = option(
        True, "serve browsers a page at / that shows models and figures and tries models; never on SageMaker"
    )
    slowdowns: bool = option(
        False, "serve /admin/slowdown, which makes a stage slower for some seconds: bench proves a cause with it"
    )
    host: str = option("127.0.0.1", "address to listen on; the container image sets 0.0.0.0")
    port: int = option(
        8080, "port to listen on; 0 takes a free one", aliases=(Alias("SAGEMAKER_BIND_TO_PORT", int),), least=0
    )
    processes: int = option(
        1,
        "replicas of the server behind one port, each with an event loop and models of its own; 0, or auto: one for "
        "each core",
        least=0,
        zero="auto",
    )
    grpc_port: int = option(
        -1, "port of the Open Inference Protocol over gRPC; 0 takes a free one, -1: no gRPC", least=-1
    )
    api_keys_file: str = option(
        "",
        "file with one API key a line; requests need one in Authorization: Bearer or X-API-Key, except for health; "
        "read again when it changes; empty: no keys; not on SageMaker, which authenticates its clients itself",
    )
    tls_cert: str = option(
        "", "PEM file with the certificate chain for TLS, read again when it changes; empty: no TLS; not on SageMaker"
    )
    tls_key: str = option("", "PEM file with the key of --tls-cert, without a password; empty: that file holds it")
    backlog: int = option(2048, "connections that may wait to be accepted", least=1)
    max_body_mb: float = option(
        30.0,
        "largest request body, in megabytes; 0 lifts the limit",
        aliases=(Alias("SAGEMAKER_MAX_PAYLOAD_IN_MB", platform.mib_as_mb),),
        least=0,
    )
    max_head_kb: float = option(
        32.0,
        "largest head of a request (URL and headers), in kilobytes; above it 431, for a URL above 8 KB 414",
        least=1,
    )
    max_receive_mb: float = option(
        256.0,
        "most received bytes that all connections hold, in megabytes; then bodies get 503; at least one body fits",
        least=1,
    )
    max_connections: int = option(
        4096,
        "most open connections; a new one replaces an idle one or gets 503; lowered to the limit on open files",
        least=1,
    )
    read_timeout_s: float = option(
        30.0,
        "seconds for a TLS handshake, for the head of a request, and for each further part of its body at 500 bytes/s",
        least=0.1,
    )
    keep_alive_s: float = option(120.0, "seconds after which an idle connection is closed", least=1)
    default_accept: str = option(
        "application/json",
        "media type of responses to requests without an Accept header, or with */*",
        aliases=(Alias("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", str),),
    )
    default_content_type: str = option("", "media type of bodies without a Content-Type; empty: these requests get 415")
    missing: str = option(
        "accept",
        "NaN in float inputs: accept where the manifest says so, or where the model gives finite outputs for it; "
        "refuse: always 422",
        choices=("accept", "refuse"),
    )

    max_batch_size: int = option(
        0,
        "most rows in one batch; 0: the manifest's, or 32",
        group="scheduling",
        aliases=(Alias("SAGEMAKER_TS_BATCH_SIZE", int), Alias("SAGEMAKER_TFS_MAX_BATCH_SIZE", int)),
        least=0,
    )
    batching: str = option(
        "auto",
        "whether requests share a run: auto where rows are shown to be independent (at load, or by the manifest); off: "
        "one request a run, as it is",
        choices=("auto", "off"),
    )
    max_queue_delay_us: int = option(
        0,
        "microseconds that a batch may wait for more rows while an instance is idle; 0: no wait",
        aliases=(
            Alias("SAGEMAKER_TS_MAX_BATCH_DELAY", platform.ms_as_us),
            Alias("SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS", platform.us),
        ),
        least=0,
    )
    max_queue_ms: float = option(
        0.0,
        "predicted wait in milliseconds above which new requests are refused with 429; 0: 1000, raised to two of the "
        "model's longest runs, or for a script to half of --script-timeout-s (logged at start)",
        aliases=(Alias("SAGEMAKER_BATCH", platform.patience_ms, "a batch transform waits instead of being refused"),),
        least=0,
    )
    cache_mb: float = option(0.0, "megabytes for each model's responses to identical inputs; 0: no cache", least=0)
    stall_s: float = option(
        120.0,
        "seconds that a run may take longer than predicted, or that requests may wait while no run starts, before the "
        "model counts as stalled: /ping says 503, and its requests get 503; one of several processes that does not "
        "respond for so long, 20 at least, is replaced; 0: never",
        least=0,
    )
    max_rows: int = option(
        1_000_000,
        "most rows of one request; above it 413. A client that has more sends them in several requests",
        least=1,
    )
    max_queue_mb: float = option(
        256.0, "megabytes of waiting requests above which new ones are refused with 429", least=1
    )
    deadline_ms: float = option(
        0.0,
        "deadline in milliseconds of a request that names none, counted from its first byte; 0: none",
        aliases=(
            Alias("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", platform.seconds_as_ms),
            Alias(
                "SAGEMAKER_MODEL_SERVER_TIMEOUT",
                platform.seconds_as_ms,
                "read as seconds, as it is documented; the toolkit's server waits 60 times as long",
            ),
            Alias("SAGEMAKER_TS_RESPONSE_TIMEOUT", platform.seconds_as_ms),
        ),
        least=0,
    )
    instances: int = option(
        0,
        "instances of each model, which run at once; 0: the manifest's, or as tuned at load",
        aliases=(
            Alias("SAGEMAKER_MODEL_SERVER_WORKERS", platform.workers),
            Alias("SAGEMAKER_TS_MAX_WORKERS", platform.workers),
            Alias("SAGEMAKER_TS_MIN_WORKERS", platform.workers),
        ),
        least=0,
    )
    threads: int = option(
        0, "threads of one instance; 0: the manifest's, or the cores of this process divided by instances", least=0
    )
    sharing: str = option(
        "turns",
        "how models share the device: turns gives each model its share of device time; strict runs one short batch at "
        "a time, for a device that cannot be interrupted; kernel leaves sharing to the operating system",
        choices=("kernel", "turns", "strict"),
    )
    tune_ms: float = option(
        400.0,
        "milliseconds for measuring instances x threads at load, where neither settings nor manifest name them; 0: one "
        "instance on all cores",
        least=0,
    )
    device: str = option(
        "auto",
        "device that runs models: auto: the manifest's, or the CPU; the server never falls back to another device",
        choices=("auto", *DEVICES),
    )
    gpus: int = option(
        1,
        "GPUs that a model on a GPU runs on, from the first visible one, with a copy of the model on each; 0: all; "
        "several processes divide them",
        least=0,
    )
    gpu_memory_mb: float = option(
        0.0,
        "most device memory of one copy of a model, in megabytes; 0: nine tenths of what is free at load; processes "
        "that share a GPU divide it",
        least=0,
    )
    inline_below_us: int = option(
        200, "a model whose single-row run takes fewer microseconds than this runs on the event loop", least=0
    )

    drain_grace_s: float = option(
        0.0, "seconds after SIGTERM in which new requests are answered while /ping says 503", group="lifecycle", least=0
    )
    drain_timeout_s: float = option(20.0, "seconds after the grace in which running requests are finished", least=0)
    log_level: str = option(
        "info",
        "least severe message that is logged",
        choices=LOG_LEVELS,
        aliases=(
            Alias("SAGEMAKER_CONTAINER_LOG_LEVEL", platform.python_level),
            Alias("SAGEMAKER_TRITON_LOG_LEVEL", platform.python_level),
        ),
    )
    log_format: str = option(
        "text", "form of the log: lines of text, or one JSON object a line", choices=("text", "json")
    )
    tracing: bool = option(
        False,
        "export one OpenTelemetry span a request, with its stages (extra tracing); the OTEL_* variables of the SDK set "
        "exporter, sampler and service name",
    )
    access_log: bool = option(False, "log every request but /ping and /metrics")

    capture_to: str = option(
        "",
        "folder or s3://BUCKET/PREFIX for captured requests and responses, in SageMaker's data capture format; empty: "
        "no capture",
        group="capture",
    )
    capture_percent: float = option(100.0, "share of requests that are captured, in percent", least=0)
    capture_mode: str = option("both", "what is captured of each request", choices=("both", "input", "output"))
    capture_redact: str = option(
        "",
        "fields removed from captured bodies, separated by commas: names of JSON keys, tensors and columns, or "
        "numbers of columns from 0; bodies in which they cannot be found for sure are left out",
    )
    capture_body_mb: float = option(
        1.0, "largest captured request or response body in megabytes; larger ones are dropped", least=0
    )
    capture_queue_mb: float = option(
        32.0, "megabytes that may wait to be captured; beyond it requests are not captured", least=0
    )
    capture_disk_mb: float = option(
        1_000.0, "megabytes of capture files below the folder; beyond it the oldest are deleted", least=1
    )

    multi_model: bool = option(
        False,
        "serve the models that POST /models loads, and only them: SageMaker's multi-model endpoints",
        group="sagemaker",
        aliases=(Alias("SAGEMAKER_MULTI_MODEL", str),),
    )
    batch_strategy: str = option(
        "MODEL",
        "records of one request that /execution-parameters advises to a batch transform; MODEL: many if it has a "
        "batch axis",
        aliases=(Alias("SAGEMAKER_BATCH_STRATEGY", platform.strategy),),
        choices=("MODEL", "MULTI_RECORD", "SINGLE_RECORD"),
    )
    stream_rows: int = option(
        0,
        "rows (CSV, JSON lines) that are sent at a time, as they are ready; 0: only where the platform asks for it",
        least=0,
    )
    sessions: bool = option(
        False,
        "serve stateful sessions (X-Amzn-SageMaker-Session-Id); off: a request with that header gets 400",
        aliases=(Alias("SAGEMAKER_ENABLE_STATEFUL_SESSIONS", str),),
    )
    session_s: float = option(
        1_200.0,
        "seconds after which a stateful session ends, counted from its opening",
        aliases=(Alias("SAGEMAKER_SESSIONS_EXPIRATION", float),),
        least=1,
    )
    max_concurrent_transforms: int = option(
        0,
        "requests at once that /execution-parameters advises to a batch transform; 0: computed",
        aliases=(Alias("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", int),),
        least=0,
    )


FIELDS = {one.name: one for one in dataclasses.fields(Settings)}
GROUPS: dict[str, str] = {}
for _one in FIELDS.values():
    GROUPS[_one.name] = _one.metadata["group"] or next(reversed(GROUPS.values()))
"""The group of each option."""
CONFIG = "config"
CONFIG_HELP = "TOML file with any of these options; a key is the option's name with underscores"


def is_switch(default: Any) -> bool:
    """Whether an option is on or off; None stands for automatic."""
    return default is None or isinstance(default, bool)


def shown_default(default: Any) -> Any:
    """A default as help and documentation show it."""
    return {None: "automatic", True: "on", False: "off"}[default] if is_switch(default) else default


def flag(name: str) -> str:
    """``max_queue_ms`` as the flag ``--max-queue-ms``."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """``max_queue_ms`` as the environment variable ``SLIPWAY_MAX_QUEUE_MS``."""
    return PREFIX + name.upper()


def aliases() -> dict[str, tuple[Alias, str]]:
    """Every variable of the platform that sets an option, with the flag of the first option that it sets."""
    found: dict[str, tuple[Alias, str]] = {}
    for one in FIELDS.values():
        for alias in one.metadata["aliases"]:
            found.setdefault(alias.name, (alias, flag(one.name)))
    return found
