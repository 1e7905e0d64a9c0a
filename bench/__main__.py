"""The command line of ``bench``: its commands and their exit statuses."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .commands import (
    advise,
    calibrate,
    compare,
    explain,
    locustfile,
    peers,
    plan,
    record,
    report,
    run,
    slo,
    sweep,
    verify,
    whatif,
)
from .errors import Unusable
from .exits import INTERRUPTED, INVALID, UNUSABLE

DESCRIPTION = "Load a model server over HTTP, and explain its latency. The first run needs one argument: the URL."
COMMANDS = (
    run,
    report,
    explain,
    whatif,
    advise,
    verify,
    sweep,
    slo,
    compare,
    plan,
    calibrate,
    record,
    locustfile,
    peers,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. An error that the user can fix is one line on standard error."""
    given = with_command(list(sys.argv[1:] if arguments is None else arguments))
    asked = parser().parse_args(given)
    try:
        status: int = asked.execute(asked, given)
    except Unusable as error:
        print(f"bench: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("bench: interrupted before the first result", file=sys.stderr)
        return INTERRUPTED
    return status


def with_command(given: list[str]) -> list[str]:
    """The arguments with ``run`` in front of a URL, which has a colon, a slash or a dot. No command has one."""
    named = given[:1] and not given[0].startswith("-")
    return ["run", *given] if named and any(sign in given[0] for sign in ":/.") else given


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    found = argparse.ArgumentParser(prog="python -m bench", description=DESCRIPTION)
    subparsers = found.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(subparsers)
    return found


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        # The reader of a pipe left (| head). Python would report the error again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(INVALID)
