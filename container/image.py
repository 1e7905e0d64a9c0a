"""Builds a container image from this checkout, checks its size, and writes its bill of materials to build/.

    python -m container.image --tag slipway:latest
    python -m container.image --target gpu --tag slipway-gpu:latest
    python -m container.image --target gpu --tag slipway-gpu-cuda12:latest --build-arg CUDA=12

Needs only Python and docker, so that it works before a virtual environment exists.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from .docker import DockerFailed, docker

ROOT = Path(__file__).resolve().parent.parent
BASE_IMAGE = "python:3.11-slim-bookworm"
LIMIT_BYTES = 300_000_000
TARGETS = {"cpu": LIMIT_BYTES, "gpu": 2_900_000_000}
"""The size limit of each target of the Dockerfile, unpacked; for ``gpu`` with CUDA 13 and without TensorRT."""

CUDA_12, LIMIT_WITH_CUDA_12 = "CUDA=12", 3_500_000_000
LIMIT_WITH_TENSORRT = 7_000_000_000

SBOM = "/opt/slipway/sbom.cdx.json"


def version() -> str:
    """The project's version in ``pyproject.toml``."""
    stated: str = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    return stated


def build(tag: str, base_image: str = BASE_IMAGE, target: str = "cpu", arguments: Sequence[str] = ()) -> None:
    """Build an image from the working tree, with docker's own progress output.

    ``arguments``: further build arguments of the Dockerfile, as NAME=VALUE.

    Raises DockerFailed when the build fails or docker is not installed.
    """
    command = ["docker", "build", "--file", str(ROOT / "container" / "Dockerfile"), "--tag", tag]
    command += ["--target", target, *(part for one in arguments for part in ("--build-arg", one))]
    command += ["--build-arg", f"BASE_IMAGE={base_image}", "--build-arg", f"VERSION={version()}", str(ROOT)]
    # A plain image without an attestation: SageMaker refuses an index with one.
    env = {**os.environ, "DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    try:
        subprocess.run(command, check=True, env=env, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise DockerFailed("the docker command is not installed") from error
    except subprocess.CalledProcessError as error:
        raise DockerFailed("the build failed; read its output above") from error


def limit_bytes(target: str, arguments: Sequence[str]) -> int:
    """The most bytes that the image of a target may have with these build arguments, as NAME=VALUE."""
    if any(one.startswith("TENSORRT") for one in arguments):
        return LIMIT_WITH_TENSORRT
    return LIMIT_WITH_CUDA_12 if CUDA_12 in arguments else TARGETS[target]


def size_bytes(tag: str) -> int:
    """The unpacked size of the image, its base included."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", tag))


def bill_of_materials(tag: str) -> str:
    """The CycloneDX document that the build wrote into the image."""
    identity = docker("create", tag)
    try:
        with tempfile.TemporaryDirectory() as folder:
            docker("cp", f"{identity}:{SBOM}", folder)
            return (Path(folder) / Path(SBOM).name).read_text("utf-8")
    finally:
        docker("rm", identity)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m container.image", description="Builds a container image.")
    parser.add_argument("--tag", default="slipway:latest", help="name of the image (default: %(default)s)")
    parser.add_argument("--base-image", default=BASE_IMAGE, help="base image (default: %(default)s)")
    parser.add_argument("--target", choices=TARGETS, default="cpu", help="target hardware (default: %(default)s)")
    parser.add_argument(
        "--build-arg", action="append", default=[], metavar="NAME=VALUE", help="argument of the Dockerfile; repeatable"
    )
    parser.add_argument(
        "--sbom", type=Path, help="where to write the bill of materials (default: build/TARGET.cdx.json)"
    )
    options = parser.parse_args(arguments)
    limit = limit_bytes(options.target, options.build_arg)
    sbom = options.sbom or ROOT / "build" / f"{options.target}.cdx.json"
    try:
        build(options.tag, options.base_image, options.target, options.build_arg)
        size = size_bytes(options.tag)
        sbom.parent.mkdir(parents=True, exist_ok=True)
        sbom.write_text(bill_of_materials(options.tag), encoding="utf-8")
    except DockerFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.tag}: {size / 1e6:.0f} MB of at most {limit / 1e6:.0f} MB; bill of materials: {sbom}")
    return 0 if size <= limit else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
