"""``bench locustfile``: a locust file for the same load, to edit."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import arguments, locustfile
from ..errors import Unusable
from ..exits import OK
from ..load import target


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("locustfile", help="print a locust file for the same load, to edit")
    command.add_argument("url", metavar="URL", help="the server (/invocations if it has no path)")
    command.add_argument("--payload", type=Path, required=True, metavar="FILE", help="request body, sent unchanged")
    command.add_argument("--content-type", metavar="TYPE", help="default: from the payload's suffix")
    command.add_argument(
        "--rate", type=arguments.positive, default=100.0, metavar="R", help="requests/s per locust user (default: 100)"
    )
    command.add_argument("--arrivals", choices=locustfile.ARRIVALS, default="poisson", help="default: %(default)s")
    command.add_argument("--seed", type=int, default=1, help="seed of the arrivals (default: %(default)s)")
    command.add_argument("--output", type=Path, metavar="FILE.py", help="write it here instead of printing it")
    command.set_defaults(execute=run)


def run(args: argparse.Namespace, _argv: Sequence[str]) -> int:
    source = locustfile.render(
        target.parse(args.url), args.payload, args.content_type, args.rate, args.arrivals, args.seed
    )
    if args.output is None:
        sys.stdout.write(source)
        return OK
    try:
        # "x": users edit the file, so it must never be overwritten.
        with args.output.open("x", encoding="utf-8") as file:
            file.write(source)
    except OSError as error:
        raise Unusable(f"cannot write {str(args.output)!r}: {error.strerror or error}") from error
    print(f"Written. Run it: locust -f {shlex.quote(str(args.output))} --headless -u 1 -t 30s", file=sys.stderr)
    return OK
