"""The command line: one parser for each command, with a flag for each setting of the description."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from . import description as described
from .description import FILE, SETTINGS
from .engines import ENGINES
from .errors import InvalidDescription

COMMANDS = {
    "push": "upload the model archive, and the image with --local-image",
    "plan": "print the exact calls and what would change; sends nothing that changes anything",
    "template": "print the same as a CloudFormation template, or with Ray as a config file of Serve",
    "up": "create or change what is described, and wait until it is in service",
    "update": "as up, for a deployment that exists",
    "status": "print what exists",
    "invoke": "send one request",
    "scale": "change the number of instances, or the bounds of auto scaling",
    "shadow": "send copies of the requests to this model too; responses come from the one in service",
    "canary": "shift a part of the traffic to this model, watch alarms, then shift all of it or go back",
    "rollback": "return to the configuration before",
    "register": "register the artifact with its evidence as a version in the model registry",
    "approve": "approve a registered version",
    "logs": "print the newest lines of the container's log",
    "cost": "print what the deployment costs",
    "policy": "print the least-privilege policy for the calls of this description",
    "down": "remove everything that this deployment created",
}
NAMED = ("status", "invoke", "scale", "rollback", "approve", "logs", "cost", "down")
"""Commands that need only the name of a deployment, which their positional argument may be."""

PLANNED = ("up", "canary", "shadow")
WAITING = ("up", "update", "scale", "shadow", "canary", "rollback", "down")


@cache
def parser() -> argparse.ArgumentParser:
    """All commands."""
    shared = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    shared.add_argument("--file", type=Path, metavar="FILE", help=f"description (default: {FILE} if it exists)")
    for setting, declared in SETTINGS.items():
        _flag(shared, setting, declared.metadata)
    top = argparse.ArgumentParser(
        prog="python -m container.deploy",
        allow_abbrev=False,
        description="Deploys an artifact to an engine. plan prints every call before any is sent.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, parents=[shared], allow_abbrev=False, help=text, description=text)
        _options(command, name)
    return top


def _options(parser: argparse.ArgumentParser, name: str) -> None:
    """The options of single commands."""
    if name in ("plan", "status", "invoke", "logs", "cost"):
        parser.add_argument("--json", action="store_true", help="print one JSON object")
    if name in WAITING:
        parser.add_argument(
            "--timeout-seconds", type=float, default=3_600.0, metavar="S", help="(default: %(default)g)"
        )
        parser.add_argument("--poll-seconds", type=float, default=15.0, metavar="S", help="(default: %(default)g)")
    if name in ("up", "update", "shadow", "canary"):
        parser.add_argument(
            "--keep", action="store_true", help="leave what was created if the container does not start"
        )
    if name in ("plan", "up"):
        parser.add_argument(
            "--from-registry", action="store_true", help="deploy the newest approved version of the group"
        )
    if name == "invoke":
        parser.add_argument("--body", type=Path, metavar="FILE", help="request (default: the artifact's own sample)")
        parser.add_argument("--content-type", default="application/json", metavar="TYPE", help="(default: %(default)s)")
        parser.add_argument("--target-model", metavar="NAME", help="model of a multi-model endpoint")
    if name == "logs":
        parser.add_argument("--lines", type=int, default=50, metavar="N", help="(default: %(default)s)")
    if name == "approve":
        parser.add_argument("--version", type=int, metavar="N", help="version (default: the newest)")
        parser.add_argument("--reject", action="store_true", help="reject it instead")
        parser.add_argument("--reason", default="", metavar="TEXT", help="reason, kept with the version")
    if name == "plan":
        parser.add_argument(
            "--for", dest="purpose", choices=PLANNED, default="up", help="command to plan (default: %(default)s)"
        )
        parser.add_argument("--out", type=Path, metavar="DIR", help="write the objects of Kubernetes as files")
    if name == "policy":
        parser.add_argument("--for-role", action="store_true", help="the policy of the execution role instead")


def _flag(parser: argparse.ArgumentParser, name: str, metadata: Mapping[str, Any]) -> None:
    text = f"{metadata['help']} ({metadata['why']})".replace("%", "%%")
    if name == "artifact":
        parser.add_argument("artifact", nargs="?", metavar="ARTIFACT", help=text)
        return
    flag = "--" + name.replace("_", "-")
    kind = described.kind(name)
    if kind is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
    elif kind is dict:
        parser.add_argument(_singular(flag), dest=name, action="append", metavar=metadata["metavar"], help=text)
    elif name == "engine":
        parser.add_argument(flag, choices=tuple(ENGINES), help=text)
    else:
        parsers: dict[type, Callable[[str], Any]] = {int: int, float: float, tuple: _several}
        parse = parsers.get(kind, str)
        choices = metadata["choices"] or None
        metavar = metadata["metavar"] or (None if choices else "N" if kind in (int, float) else "TEXT")
        parser.add_argument(flag, type=parse, choices=choices, metavar=metavar, help=text)


def _singular(flag: str) -> str:
    """--environment as --env, --tags as --tag: one entry each."""
    return {"--environment": "--env", "--tags": "--tag"}[flag]


def _several(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that flags gave, by name; dictionaries from their NAME=VALUE entries."""
    values = {name: getattr(options, name) for name in SETTINGS}
    for name, value in values.items():
        if described.kind(name) is dict and value is not None:
            values[name] = _entries(value)
    return values


def _entries(given: Sequence[str]) -> dict[str, str]:
    entries = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise InvalidDescription(f"{one!r}: write NAME=VALUE")
        entries[name] = value
    return entries
