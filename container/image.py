"""The image: build it from this checkout, and say how large it came out.

    python -m container.image --tag slipway:latest

Needs nothing but Python and docker, so that it works before any virtual environment exists.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from .docker import DockerFailed, docker

ROOT = Path(__file__).resolve().parent.parent
BASE_IMAGE = "python:3.11-slim-bookworm"
LIMIT_BYTES = 320_000_000


def version() -> str:
    """The version that ``pyproject.toml`` states."""
    stated: str = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    return stated


def build(tag: str, base_image: str = BASE_IMAGE) -> None:
    """Build the CPU image from the working tree, showing docker's own progress.

    Raises DockerFailed when the build fails or docker is not installed.
    """
    command = ["docker", "build", "--file", str(ROOT / "container" / "Dockerfile"), "--tag", tag]
    command += ["--build-arg", f"BASE_IMAGE={base_image}", "--build-arg", f"VERSION={version()}", str(ROOT)]
    # A plain image and no index with an attestation beside it: SageMaker refuses the latter.
    env = {**os.environ, "DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    try:
        subprocess.run(command, check=True, env=env, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise DockerFailed("the docker command is not installed") from error
    except subprocess.CalledProcessError as error:
        raise DockerFailed("the build failed; its output says why") from error


def size_bytes(tag: str) -> int:
    """What the image occupies unpacked, its base included."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", tag))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m container.image", description="Build the CPU image.")
    parser.add_argument("--tag", default="slipway:latest", help="name of the image (default: %(default)s)")
    parser.add_argument("--base-image", default=BASE_IMAGE, help="what to build on (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        build(options.tag, options.base_image)
        size = size_bytes(options.tag)
    except DockerFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.tag}: {size / 1e6:.0f} MB of at most {LIMIT_BYTES / 1e6:.0f} MB")
    return 0 if size <= LIMIT_BYTES else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
