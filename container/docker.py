"""The docker command line: runs a command, and reports a failure in one line."""

from __future__ import annotations

import subprocess
from shutil import which


class DockerFailed(Exception):
    """A docker command failed; the message is the last line of its error output."""


def docker(*arguments: str, timeout_s: float = 60, with_stderr: bool = False) -> str:
    """Run one docker command and return its standard output, stripped. ``with_stderr``: standard error included.

    Raises DockerFailed when the command fails, takes longer than ``timeout_s``, or is not installed.
    """
    try:
        done = subprocess.run(
            ["docker", *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if with_stderr else subprocess.PIPE,
            text=True,
            timeout=timeout_s,
        )
    except FileNotFoundError as error:
        raise DockerFailed("the docker command is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise DockerFailed(f"docker {arguments[0]} took longer than {timeout_s:g} s") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stderr or error.stdout).splitlines() if line.strip()]
        raise DockerFailed(lines[-1] if lines else f"docker {arguments[0]} ended with {error.returncode}") from error
    return done.stdout.strip()


def unreachable_reason() -> str | None:
    """None when a docker engine responds; otherwise the reason, in one line."""
    if which("docker") is None:
        return "the docker command is not installed"
    try:
        docker("version", "--format", "{{.Server.Version}}", timeout_s=10)
    except DockerFailed as error:
        return f"no docker engine responds ({error})"
    return None


def has_image(reference: str) -> bool:
    """Whether the engine has this image, so that no pull is necessary."""
    try:
        docker("image", "inspect", "--format", "{{.Id}}", reference)
    except DockerFailed:
        return False
    return True
