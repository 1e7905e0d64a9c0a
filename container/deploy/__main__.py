"""``python -m container.deploy COMMAND``: from a description to a deployment. See ``--help`` and docs/deploy.md."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import arguments, defaults, description, engines, model_source
from .defaults import Facts
from .description import FILE, Given
from .errors import DeployError, InvalidDescription
from .order import Clock, Order, say

INTERRUPTED = 130
ASSUMED_REGION = "us-east-1"


def main(
    argv: Sequence[str],
    *,
    say: Callable[[str], None] = say,
    clock: Clock | None = None,
    observe: Callable[[Any], None] = lambda _: None,
) -> int:
    """Run one command and return its exit code. A failure is one line, or one for each reason, on standard error."""
    options = arguments.parser().parse_args(argv)
    try:
        order = replace(order_of(options), say=say, clock=clock or Clock(), observe=observe)
        engines.run(order)
        return 0
    except DeployError as error:
        for line in str(error).splitlines():
            print(f"deploy: {line}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"deploy: interrupted; run {options.command} again to continue", file=sys.stderr)
        return INTERRUPTED


def order_of(options: argparse.Namespace) -> Order:
    """The order that a command line gives. Raises DeployError."""
    given = _given(options)
    artifact = given["artifact"].value if "artifact" in given else ""
    if options.command in arguments.NAMED and artifact and not _is_model(artifact):
        # A deployment's name in the place of the artifact.
        origin = given.pop("artifact").origin
        given.setdefault("name", Given(artifact, origin))
        artifact = ""
    from_registry = getattr(options, "from_registry", False)
    if not artifact and options.command not in arguments.NAMED and not from_registry:
        raise InvalidDescription(f"ARTIFACT is missing: pass it, or write artifact = ... into {FILE}")
    multi_model = "multi_model" in given and bool(given["multi_model"].value)
    source = model_source.find(artifact, multi_model=multi_model) if artifact else None
    plan = defaults.read_plan(given["bench_plan"].value if "bench_plan" in given else None)
    facts = Facts(source, plan)
    wanted = defaults.complete(given, facts)
    if options.command == "plan" and wanted.region is None:
        given["region"] = Given(ASSUMED_REGION, "assumed for this plan, because none is configured: pass --region")
        wanted = defaults.complete(given, facts)
    wanted.require("name")
    taken = {name: getattr(options, name) for name in _OPTIONS if hasattr(options, name)}
    waits = {
        name: getattr(options, f"{name}econds") for name in ("timeout_s", "poll_s") if hasattr(options, f"{name}econds")
    }
    return Order(options.command, wanted, facts, **taken, **waits)


_OPTIONS = (
    *("json", "keep", "from_registry", "body", "content_type", "target_model", "lines"),
    *("version", "reject", "reason", "for_role", "out", "purpose"),
)
"""Options of single commands, with the names that the order has for them."""


def _given(options: argparse.Namespace) -> dict[str, Given]:
    """The settings of the file, and over them those of the flags."""
    path = options.file or (Path(FILE) if Path(FILE).is_file() else None)
    from_file = description.from_file(path) if path is not None else {}
    return {**from_file, **description.from_flags(arguments.settings(options))}


def _is_model(artifact: str) -> bool:
    return artifact.startswith(model_source.REMOTE) or Path(artifact).exists()


if __name__ == "__main__":
    # SIGTERM ends a command as Ctrl-C does; the next run continues.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
