"""The settings: every option exactly once, with its default, flag, environment variables, file key and help text.

Sources, strongest first: command-line flag, ``SLIPWAY_*`` variable, ``SAGEMAKER_*`` alias, TOML file, default.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from .. import fatal
from ..errors import BadSetting
from . import sagemaker as platform
from .sagemaker import Alias

PREFIX = "SLIPWAY_"
LOG_LEVELS = platform.LEVELS


def _program(text: str) -> str:
    return text if text.endswith(".py") else text + ".py"


def _folder(text: str) -> str:
    """A folder of this machine; what the platform names elsewhere (``s3://``) has been brought here by then."""
    path = text.removeprefix("file://")
    return "" if "://" in path else path


def option(
    default: Any,
    text: str,
    *,
    group: str,
    aliases: tuple[Alias, ...] = (),
    choices: tuple[str, ...] = (),
    least: float | None = None,
) -> Any:
    """Declare one option; its type is the default's."""
    metadata = {"text": text, "group": group, "aliases": aliases, "choices": choices, "least": least}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The values that a server runs with. Plain data: read once, passed on."""

    model: str = option(
        "/opt/ml/model",
        "directory of the artifact (or with a bare model.onnx in it), an ONNX file, or a folder NAME/VERSION/",
        group="model",
        aliases=(Alias("SAGEMAKER_BASE_DIR", platform.model_below),),
    )
    name: str = option("", "name to serve the model under; empty: the manifest's, or the folder's", group="model")
    default_model: str = option("", "name of the model that /invocations asks; empty: the first", group="model")
    keep_versions: int = option(
        1, "versions of each model in a folder that are loaded, from the highest down; 0: all", group="model", least=0
    )
    poll_s: float = option(
        0.0,
        "look into the folder this often: load what is new or changed, unload what is gone; 0: never",
        group="model",
        least=0,
    )
    memory_budget_mb: float = option(
        0.0,
        "memory up to which models are loaded, in megabytes; 0: nine tenths of the container's limit, if it has one",
        group="model",
        least=0,
    )
    probation_s: float = option(
        300.0,
        "a version that takes over is watched this long, and rolled back if it breaks the next two rules, or those of "
        "its canary, while the version before it is still loaded; 0: never",
        group="model",
        least=0,
    )
    probation_error_rate: float = option(
        0.1,
        "on probation: share of answers that fail by the model's fault, above that of the version before; 0: no rule",
        group="model",
        least=0,
    )
    probation_latency: float = option(
        0.0,
        "on probation: p95 above this times that of the version before, where a canary measured both; 0: no rule",
        group="model",
        least=0,
    )
    admin: bool = option(True, "routes that load, unload and switch models: /admin, /v2/repository", group="http")
    verify_digests: bool = option(True, "compare every file with its SHA-256 in the manifest at load", group="model")

    scripts: bool = option(
        True, "run the code/inference.py of a model; off: models that bring code are refused", group="script"
    )
    script_program: str = option(
        "inference.py",
        "file name of a model's script, in its folder code/ or beside it",
        group="script",
        aliases=(Alias("SAGEMAKER_PROGRAM", _program),),
    )
    script_directory: str = option(
        "",
        "folder of the script where the model's own has none; after it /opt/ml/code",
        group="script",
        aliases=(Alias("SAGEMAKER_SUBMIT_DIRECTORY", _folder), Alias("SAGEMAKER_BASE_DIR", platform.code_below)),
    )
    script_handler: str = option(
        "",
        "MODULE:ATTRIBUTE of a handler of the multi-model server; empty: found by its shape",
        group="script",
        aliases=(Alias("SAGEMAKER_HANDLER", str),),
    )
    script_workers: int = option(
        0,
        "processes that run a script; 0: threads of the server itself, as many as --instances",
        group="script",
        least=0,
    )
    script_worker_mb: float = option(
        0.0,
        "a process of a script that holds more memory than this is replaced between two requests; 0: never",
        group="script",
        least=0,
    )
    script_timeout_s: float = option(
        60.0,
        "longest run of a script; then its requests get 504, its thread is given up, its process killed",
        group="script",
        least=0.001,
    )
    script_shims: str = option(
        "missing",
        "when scripts find our stand-ins for the packages sagemaker_inference and mms",
        group="script",
        choices=("missing", "always", "never"),
    )
    script_install: bool = option(
        False, "install the requirements.txt of a script with pip at load; off: report what is missing", group="script"
    )

    host: str = option("127.0.0.1", "address to listen on; the container image sets 0.0.0.0", group="http")
    port: int = option(
        8080,
        "port to listen on; 0 takes a free one",
        group="http",
        aliases=(Alias("SAGEMAKER_BIND_TO_PORT", int),),
        least=0,
    )
    backlog: int = option(2048, "connections that may wait to be accepted", group="http", least=1)
    max_body_mb: float = option(
        30.0,
        "largest request body, in megabytes; 0 lifts the limit",
        group="http",
        aliases=(Alias("SAGEMAKER_MAX_PAYLOAD_IN_MB", platform.mib_as_mb),),
        least=0,
    )
    read_timeout_s: float = option(
        30.0,
        "a request gets 408 when its head, or in any such time 500 bytes/s of its body, have not come",
        group="http",
        least=0.1,
    )
    keep_alive_s: float = option(120.0, "an idle connection is closed after this long", group="http", least=1)
    default_accept: str = option(
        "application/json",
        "media type of answers to requests without an Accept header, or with */*",
        group="http",
        aliases=(Alias("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", str),),
    )
    default_content_type: str = option(
        "", "media type of bodies without a Content-Type; empty: they get 415", group="http"
    )

    max_batch_size: int = option(
        0,
        "most rows in one run; 0: the manifest's, or 32",
        group="scheduling",
        aliases=(Alias("SAGEMAKER_TS_BATCH_SIZE", int), Alias("SAGEMAKER_TFS_MAX_BATCH_SIZE", int)),
        least=0,
    )
    max_queue_delay_us: int = option(
        0,
        "how long a batch may wait for company while an instance is idle; 0: never",
        group="scheduling",
        aliases=(
            Alias("SAGEMAKER_TS_MAX_BATCH_DELAY", platform.ms_as_us),
            Alias("SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS", platform.us),
        ),
        least=0,
    )
    max_queue_ms: float = option(
        1_000.0,
        "predicted wait at which new requests are refused with 429",
        group="scheduling",
        aliases=(Alias("SAGEMAKER_BATCH", platform.patience_ms, "a batch transform waits instead of being refused"),),
        least=1,
    )
    cache_mb: float = option(
        0.0, "memory for each model's answers to identical inputs; 0: nothing is kept", group="scheduling", least=0
    )
    max_queue_mb: float = option(
        256.0, "size of all waiting requests at which new ones are refused with 429", group="scheduling", least=1
    )
    deadline_ms: float = option(
        0.0,
        "deadline of a request that names none, counted from its first byte; 0: none",
        group="scheduling",
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
        "runs of the model side by side; 0: the manifest's, or as tuned at load",
        group="scheduling",
        aliases=(
            Alias("SAGEMAKER_MODEL_SERVER_WORKERS", int),
            Alias("SAGEMAKER_TS_MAX_WORKERS", int),
            Alias("SAGEMAKER_TS_MIN_WORKERS", int),
        ),
        least=0,
    )
    threads: int = option(
        0,
        "threads of one run; 0: the manifest's, or the cores of this process over instances",
        group="scheduling",
        least=0,
    )
    sharing: str = option(
        "turns",
        "how models on threads share the device: turns keeps one model's many instances from crowding out another "
        "model; strict runs one at a time, and short ones, as for a device that cannot be interrupted; kernel leaves "
        "it to the operating system",
        group="scheduling",
        choices=("kernel", "turns", "strict"),
    )
    tune_ms: float = option(
        400.0,
        "time for trying instances x threads at load, where neither settings nor manifest say; 0: one instance on all "
        "cores",
        group="scheduling",
        least=0,
    )
    device: str = option(
        "cpu",
        "what runs ONNX models; nothing falls back to another device than the one that is asked for",
        group="scheduling",
        choices=("cpu", "cuda", "tensorrt"),
    )
    inline_below_us: int = option(
        200,
        "a model whose single-row run is faster than this runs on the event loop itself",
        group="scheduling",
        least=0,
    )

    drain_grace_s: float = option(
        0.0, "after SIGTERM, keep answering new requests this long while /ping says 503", group="lifecycle", least=0
    )
    drain_timeout_s: float = option(
        20.0, "after the grace, wait this long for running requests", group="lifecycle", least=0
    )
    log_level: str = option(
        "info",
        "least severe message that is logged",
        group="lifecycle",
        choices=LOG_LEVELS,
        aliases=(Alias("SAGEMAKER_CONTAINER_LOG_LEVEL", platform.python_level),),
    )
    access_log: bool = option(False, "log every request but /ping and /metrics", group="lifecycle")

    multi_model: bool = option(
        False,
        "serve the models that POST /models loads, and only them: SageMaker's multi-model endpoints",
        group="sagemaker",
        aliases=(Alias("SAGEMAKER_MULTI_MODEL", str),),
    )
    batch_strategy: str = option(
        "MULTI_RECORD",
        "what /execution-parameters advises a batch transform to put into one request",
        group="sagemaker",
        aliases=(Alias("SAGEMAKER_BATCH_STRATEGY", platform.strategy),),
        choices=("MULTI_RECORD", "SINGLE_RECORD"),
    )
    stream_rows: int = option(
        0,
        "send lines (CSV, JSON lines) so many at a time, as they are ready; 0: only where the platform asks for it",
        group="sagemaker",
        least=0,
    )
    sessions: bool = option(
        False,
        "stateful sessions: X-Amzn-SageMaker-Session-Id; without this a request with that header gets 400",
        group="sagemaker",
        aliases=(Alias("SAGEMAKER_ENABLE_STATEFUL_SESSIONS", str),),
    )
    session_s: float = option(
        1_200.0,
        "a session ends this long after it was opened",
        group="sagemaker",
        aliases=(Alias("SAGEMAKER_SESSIONS_EXPIRATION", float),),
        least=1,
    )
    max_concurrent_transforms: int = option(
        0,
        "requests that /execution-parameters advises a batch transform to send side by side; 0: computed",
        group="sagemaker",
        aliases=(Alias("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", int),),
        least=0,
    )


FIELDS = {one.name: one for one in dataclasses.fields(Settings)}
CONFIG = "config"
CONFIG_HELP = "TOML file with any of these options, spelt with underscores"


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    return PREFIX + name.upper()


def environment() -> Mapping[str, str]:
    """The variables of this process: whoever else needs them is given them."""
    return os.environ


def from_process(argv: Sequence[str] | None = None) -> Settings:
    """Settings of this process. Prints help, or one line on a bad setting, and exits (0 or 2)."""
    try:
        return read(sys.argv[1:] if argv is None else argv, environment())
    except BadSetting as error:
        print(f"slipway: {fatal.line(error)}", file=sys.stderr)  # noqa: T201 - there is no log yet
        raise SystemExit(2) from None


def aliases() -> dict[str, tuple[Alias, str]]:
    """Every variable of the platform that is an option, with the option's flag; the first, where it is several."""
    found: dict[str, tuple[Alias, str]] = {}
    for one in FIELDS.values():
        for alias in one.metadata["aliases"]:
            found.setdefault(alias.name, (alias, flag(one.name)))
    return found


def read(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Merge all sources. Raises BadSetting for an unknown name, naming the nearest, or an impossible value."""
    flags = _flags(argv)
    variables = _variables(environ)
    config = (variables | flags).get(CONFIG)
    layers = [_file(config) if config else {}, _aliases(environ), variables, flags]
    values: dict[str, Any] = {}
    for layer in layers:
        values.update(layer)
    values.pop(CONFIG, None)
    return Settings(**values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadSetting(f"{message}; see --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="serve.py",
        usage="serve.py [serve] [OPTION ...]\n       serve.py doctor [OPTION ...]",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Serve a model: SageMaker's /ping and /invocations, the Open Inference Protocol under /v2,\n"
        "Prometheus metrics under /metrics and the API's documentation under /docs, all on one port.",
        epilog="Every option is also an environment variable (--max-queue-ms is SLIPWAY_MAX_QUEUE_MS) and a key of\n"
        "the file that --config names (max_queue_ms = 500). Flags win over variables, variables over the file.\n\n"
        "examples:\n"
        "  python serve.py --model build/digits\n"
        "  python serve.py --model model.onnx --port 9000 --instances 2 --threads 1\n"
        "  SLIPWAY_LOG_LEVEL=debug python serve.py --config slipway.toml\n"
        "  python serve.py doctor --model build/digits",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=["serve"],
        default="serve",
        help="accepted and ignored: what SageMaker passes; doctor instead of it examines: see doctor --help",
    )
    parser.add_argument(flag(CONFIG), metavar="FILE", help=CONFIG_HELP)
    groups: dict[str, Any] = {}
    for one in FIELDS.values():
        group = one.metadata["group"]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        shown = "on" if one.default is True else "off" if one.default is False else one.default
        text = (one.metadata["text"] + (f" (default: {shown})" if shown != "" else "")).replace("%", "%%")
        if isinstance(one.default, bool):
            groups[group].add_argument(flag(one.name), action=argparse.BooleanOptionalAction, help=text)
        else:
            metavar = "|".join(one.metadata["choices"]) or type(one.default).__name__.upper()
            groups[group].add_argument(flag(one.name), metavar=metavar, help=text)
    return parser


def _flags(argv: Sequence[str]) -> dict[str, Any]:
    parser = _parser()
    known = [name for action in parser._actions for name in action.option_strings]
    for argument in argv:
        # Looked at before parsing: argparse would call the value of a mistyped flag the mistake.
        name = argument.partition("=")[0]
        if name.startswith("--") and name not in known:
            raise BadSetting(_nearest("option", name, known))
    given = {name: value for name, value in vars(parser.parse_args(list(argv))).items() if name != "command"}
    return {name: _value(name, value, flag(name)) for name, value in given.items()}


def _variables(environ: Mapping[str, str]) -> dict[str, Any]:
    known = {variable(name): name for name in (*FIELDS, CONFIG)}
    values = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX):
            continue
        if name not in known:
            raise BadSetting(_nearest("environment variable", name, list(known)))
        values[known[name]] = _value(known[name], text, name)
    return values


def _aliases(environ: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for one in FIELDS.values():
        for alias in one.metadata["aliases"]:
            text = environ.get(alias.name)
            if text and one.name not in values:
                try:
                    value = alias.read(text)
                except (ValueError, OverflowError) as error:
                    raise BadSetting(f"{alias.name}={text!r} is not a number") from error
                if value is not None:
                    values[one.name] = _value(one.name, value, alias.name)
    return values


def _file(path: str) -> dict[str, Any]:
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSetting(f"cannot read {flag(CONFIG)} {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} is not TOML: {error}") from error
    for name in content:
        if name not in FIELDS:
            raise BadSetting(_nearest(f"key in {path}", name, list(FIELDS)))
    return {name: _value(name, value, f"{name} in {path}") for name, value in content.items()}


def _value(name: str, value: Any, where: str) -> Any:
    """Convert and check a value against the option's default type, its choices and its least value."""
    if name == CONFIG:
        return value
    one = FIELDS[name]
    kind: Callable[[Any], Any] = type(one.default)
    if kind is bool:
        return _truth(value, where)
    try:
        converted = _converted(kind, value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadSetting(f"{where} must be {_kind(kind)}, got {value!r}") from error
    choices, least = one.metadata["choices"], one.metadata["least"]
    if choices and converted not in choices:
        raise BadSetting(f"{where} must be one of {', '.join(choices)}, got {value!r}")
    if least is not None and not converted >= least:
        raise BadSetting(f"{where} must be at least {least}, got {value!r}")
    if name == "port" and converted > 65_535:
        raise BadSetting(f"{where} must be at most 65535, got {value!r}")
    return converted


def _converted(kind: Callable[[Any], Any], value: Any) -> Any:
    """Raises TypeError, ValueError or OverflowError unless nothing is lost, and for what is not finite."""
    if isinstance(value, (bool, list, dict)):
        raise TypeError
    converted = kind(value)
    if kind is not str and not math.isfinite(converted):
        raise OverflowError
    if isinstance(value, float) and kind is int and converted != value:
        raise ValueError
    return converted


def _truth(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise BadSetting(f"{where} must be true or false, got {value!r}")


def _kind(kind: Callable[[Any], Any]) -> str:
    return "a whole number" if kind is int else "a number" if kind is float else "text"


def _nearest(what: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; the nearest is {close[0]}" if close else ""
    return f"unknown {what} {name}{hint}; see --help for all"


def as_markdown() -> str:
    """The settings as a page of Markdown: how ``docs/settings.md`` is made."""
    lines = [
        "# Settings",
        "",
        "Generated from `server/settings/options.py` by `make docs`. Strongest first: flag, `SLIPWAY_*` variable,",
        "`SAGEMAKER_*` variable, TOML file (`--config`), default.",
    ]
    group = ""
    for one in FIELDS.values():
        if one.metadata["group"] != group:
            group = one.metadata["group"]
            lines += ["", f"## {group}", "", "| flag and variable | default | meaning |", "|---|---|---|"]
        also = "".join(f", also `{alias.name}`" for alias in one.metadata["aliases"])
        choices = "".join(f" `{choice}`" for choice in one.metadata["choices"])
        text = one.metadata["text"] + (f":{choices}" if choices else "")
        default = "on" if one.default is True else "off" if one.default is False else one.default
        shown = f"`{default}`" if default != "" else "none"
        lines.append(f"| `{flag(one.name)}` `{variable(one.name)}`{also} | {shown} | {text} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
