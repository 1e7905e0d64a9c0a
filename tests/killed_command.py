"""Commands of container.deploy in processes of their own, which SIGKILL themselves before a call.

The processes are forked from one that has imported everything, so that each takes a fraction of a second.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KILLED = -signal.SIGKILL
NEVER = -1


class Commands:
    """Runs commands; each call waits for the end of one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def killed(self, at: int, *arguments: str | Path) -> int:
        """The exit code of a command that is killed before its call number ``at``, from 0; KILLED if it was."""
        return self._run(at, arguments)[0]

    def run(self, arguments: Sequence[str | Path]) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        return self._run(NEVER, arguments)

    def _run(self, at: int, arguments: Sequence[str | Path]) -> tuple[int, str, str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([at, [str(one) for one in arguments]]) + "\n")
        self._process.stdin.flush()
        code, output, errors = json.loads(self._process.stdout.readline())
        return code, output, errors


@contextmanager
def commands(environ: dict[str, str] | None = None) -> Iterator[Commands]:
    """The process that commands are forked from, until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.killed_command"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **(environ or {})},
        text=True,
    ) as process:
        yield Commands(process)


def _make_clients() -> None:
    """Make the clients once, for all commands: that takes most of their time. None has a connection yet."""
    import boto3

    made = {one: boto3.client(one) for one in ("s3", "sagemaker", "application-autoscaling", "cloudwatch")}
    boto3.client = lambda service, **_: made[service]


def _serve() -> None:
    """Fork a process for each line of standard input, and print how it ended."""
    from container.deploy.local import engine as _  # noqa: F401

    for line in sys.stdin:
        at, arguments = json.loads(line)
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            child = os.fork()
            if child == 0:
                os.dup2(output.fileno(), 1)
                os.dup2(errors.fileno(), 2)
                _end(at, arguments)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            texts = []
            for file in (output, errors):
                file.seek(0)
                texts.append(file.read().decode())
        sys.stdout.write(json.dumps([code, *texts]) + "\n")
        sys.stdout.flush()


def _end(at: int, arguments: list[str]) -> None:
    from container.deploy.__main__ import main

    code = 1
    try:
        code = main(arguments, observe=_killing(at))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _killing(at: int) -> Callable[[Any], None]:
    """Kills this process before the call number ``at``."""
    count = itertools.count()

    def observe(_: Any) -> None:
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return observe


if __name__ == "__main__":
    if "AWS_ENDPOINT_URL" in os.environ:
        _make_clients()
    _serve()
