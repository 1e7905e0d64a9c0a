"""The SageMaker environment: how its variables are read, and the meaning of those that set no option."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "SAGEMAKER_"
LEVELS = ("debug", "info", "warning", "error")
TRUE = ("1", "true", "yes", "on")
MIB_AS_MB = 1.048576
"""SageMaker counts 6 MB as 6,291,456 bytes; our settings count in millions of bytes."""

BATCH_PATIENCE_MS = 600_000.0
"""How long a request of a batch transform may wait: a job fails after three refusals, and its latency does not matter.
600 s is the platform's default limit for one request of a job."""

SAFE_PORTS = "SAGEMAKER_SAFE_PORT_RANGE"


@dataclass(frozen=True, slots=True)
class Alias:
    """A variable of the platform or its toolkits that sets an option.

    ``read`` returns the option's value, or None where the variable changes nothing. It raises ValueError or
    OverflowError for a text that it cannot read. ``note`` is logged at start where the variable is set.
    """

    name: str
    read: Callable[[str], Any]
    note: str = ""


def seconds_as_ms(text: str) -> float:
    return float(text) * 1_000.0


def ms_as_us(text: str) -> int:
    return int(float(text) * 1_000)


def us(text: str) -> int:
    return int(float(text))


def mib_as_mb(text: str) -> float:
    return round(float(text) * MIB_AS_MB, 6)


def python_level(text: str) -> str:
    """Python's number of a level, or its name, as the level of our log."""
    if text.isdigit():
        return LEVELS[min(max(int(text) // 10 - 1, 0), 3)]
    name = {"warn": "warning", "critical": "error", "fatal": "error", "notset": "debug"}.get(text.lower(), text.lower())
    if name not in LEVELS:
        raise ValueError(text)
    return name


def workers(text: str) -> int | None:
    """A number of workers; ``auto`` leaves it to the server."""
    return None if text.lower() == "auto" else int(text)


def strategy(text: str) -> str:
    """``MULTI_RECORD``, and the spelling of the API, ``MultiRecord``, for the same."""
    return {"multirecord": "MULTI_RECORD", "singlerecord": "SINGLE_RECORD"}.get(text.replace("_", "").lower(), text)


def file_name(text: str) -> str:
    """The name of a script's file: SAGEMAKER_PROGRAM may lack the extension."""
    return text if text.endswith(".py") else text + ".py"


def folder(text: str) -> str:
    """A folder of this machine. Empty for another scheme (``s3://``): the platform has copied that folder by then."""
    path = text.removeprefix("file://")
    return "" if "://" in path else path


def patience_ms(text: str) -> float | None:
    """SAGEMAKER_BATCH: requests wait instead of being refused."""
    return BATCH_PATIENCE_MS if text.lower() in TRUE else None


def model_below(text: str) -> str:
    """SAGEMAKER_BASE_DIR stands for ``/opt/ml``."""
    return text.rstrip("/") + "/model"


def code_below(text: str) -> str:
    """Where the platform's tools put code that is not in the model."""
    return text.rstrip("/") + "/code"


NOT_SETTINGS = {
    "SAGEMAKER_REGION": "the server calls no service; scripts may read it",
    "SAGEMAKER_STARTUP_TIMEOUT": "ignored: the endpoint's own start-up limit holds",
    "SAGEMAKER_MODEL_SERVER_VMARGS": "ignored: there is no Java machine",
    "SAGEMAKER_TFS_ENABLE_BATCHING": "batching is always on",
    "SAGEMAKER_TFS_NGINX_LOGLEVEL": "ignored: there is no nginx",
    "SAGEMAKER_TRITON_LOG_VERBOSE": "ignored: set SAGEMAKER_CONTAINER_LOG_LEVEL",
    "SAGEMAKER_TRITON_LOG_INFO": "ignored: set SAGEMAKER_CONTAINER_LOG_LEVEL",
    "SAGEMAKER_TRITON_LOG_WARNING": "ignored: set SAGEMAKER_CONTAINER_LOG_LEVEL",
    "SAGEMAKER_TRITON_LOG_ERROR": "ignored: set SAGEMAKER_CONTAINER_LOG_LEVEL",
    "SAGEMAKER_TRITON_THREAD_COUNT": "ignored: one event loop serves HTTP",
    "SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE": "ignored: no shared memory is used",
    "SAGEMAKER_TRITON_SHM_GROWTH_BYTE_SIZE": "ignored: no shared memory is used",
    "SAGEMAKER_TRITON_ADDITIONAL_ARGS": "ignored: there is no tritonserver",
    SAFE_PORTS: "no other port is opened",
    "CA_REPOSITORY_ARN": "nothing is installed at start: install requirements when the image is built",
}
"""Variables of the platform that set no option."""


def is_platform(environ: Mapping[str, str]) -> bool:
    """Whether the platform has started this process, by its variables."""
    return any(name.startswith(PREFIX) for name in environ)


def explain(
    environ: Mapping[str, str],
    aliases: Mapping[str, tuple[Alias, str]],
    port: int,
    unreadable: Collection[str] = (),
) -> Iterator[tuple[int, str]]:
    """(level of the log, line) about the platform's variables. Values are not shown: they may be secrets.

    ``aliases``: each variable that sets an option, with the option's flag. ``port``: the port of the server.
    ``unreadable``: the variables among them whose value the option does not take.
    """
    said = []
    unknown = []
    for name in sorted(environ):
        if name in unreadable:
            flag = aliases[name][1]
            yield logging.WARNING, f"platform variable is ignored: {flag} does not take the value of {name}; set {flag}"
        elif name in aliases:
            alias, flag = aliases[name]
            said.append(f"{name} is {flag}" + (f" ({alias.note})" if alias.note else ""))
        elif name in NOT_SETTINGS:
            said.append(f"{name}: {NOT_SETTINGS[name]}")
        elif name.startswith(PREFIX):
            unknown.append(name)
    if said:
        yield logging.INFO, f"platform variables are set: {'; '.join(said)}"
    if unknown:
        yield logging.DEBUG, f"platform variables are ignored: {', '.join(unknown)}"
    low, _, high = environ.get(SAFE_PORTS, "").partition("-")
    if low.isdigit() and high.isdigit() and port and not int(low) <= port <= int(high):
        yield logging.WARNING, f"port {port} is outside of {SAFE_PORTS}, {low} to {high}: the platform may not reach it"
