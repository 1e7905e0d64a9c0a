"""The log of the containers: its newest lines, and the first fatal one, which says why a deployment failed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from server import fatal

from ..errors import DeployError
from .services import Missing, Services

STREAMS, MOST_LINES = 5, 10_000
WORDS = re.compile(
    r"Traceback|\b(error|exception|fatal|panic|killed|denied)\b|exec format|no such file|not found|out of memory",
    re.IGNORECASE,
)


def group(deployment: str) -> str:
    """The log group of an endpoint."""
    return f"/aws/sagemaker/Endpoints/{deployment}"


def newest(services: Services, deployment: str, count: int) -> list[str]:
    """The last ``count`` lines of the streams with the newest events, oldest first; [] without a log."""
    events: list[tuple[int, str]] = []
    for stream in _streams(services, deployment):
        events += _events(services, deployment, stream, count, from_head=False)
    return [line for _, line in sorted(events, key=lambda event: event[0])][-count:]


def first_fatal(services: Services, deployment: str) -> str:
    """The first fatal line of the newest streams, or "" when there is none to read."""
    try:
        for stream in _streams(services, deployment):
            lines = [line for _, line in _events(services, deployment, stream, MOST_LINES, from_head=True)]
            if lines:
                return fatal_of(lines)
    except DeployError as error:
        return f"the log cannot be read: {error}"
    return ""


def fatal_of(lines: Sequence[str]) -> str:
    """The first line with the server's mark; else the line that ends the first traceback; else the first that warns.

    Other images have no mark. The last line stands for a log without any such word.
    """
    for line in lines:
        if fatal.MARK in line:
            return line[line.index(fatal.MARK) :].strip()
    for place, line in enumerate(lines):
        if "Traceback" in line:
            return next((one.strip() for one in lines[place + 1 :] if one[:1].strip()), line.strip())
        if WORDS.search(line):
            return line.strip()
    return lines[-1].strip()


def _streams(services: Services, deployment: str) -> list[str]:
    try:
        found = services.ask(
            "logs",
            "DescribeLogStreams",
            logGroupName=group(deployment),
            orderBy="LastEventTime",
            descending=True,
            limit=STREAMS,
        )
    except Missing:
        return []
    return [one["logStreamName"] for one in found["logStreams"]]


def _events(services: Services, deployment: str, stream: str, count: int, *, from_head: bool) -> list[tuple[int, str]]:
    found = services.ask(
        "logs",
        "GetLogEvents",
        logGroupName=group(deployment),
        logStreamName=stream,
        limit=min(count, MOST_LINES),
        startFromHead=from_head,
    )
    return [(one["timestamp"], line) for one in found["events"] for line in one["message"].splitlines()]
