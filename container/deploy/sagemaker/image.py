"""The upload of an image to its ECR repository, by the docker engine of this machine."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from ...docker import DockerFailed, docker
from ..calls import Call
from ..defaults import ECR
from ..description import Description
from ..errors import DeployError, InvalidDescription, NotThere
from ..order import Order
from . import resources
from .services import Missing, Services

PUSH_S = 3_600


def push(order: Order, services: Services) -> None:
    """Push the local image as IMAGE unless the repository holds it already. Raises DeployError."""
    description = order.description
    description.require("image", "local_image")
    image, local = str(description.image), str(description.local_image)
    registry = ECR.match(image)
    if registry is None:
        raise InvalidDescription(
            f"--image {image} is in no ECR repository: ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG"
        )
    repository, tag = registry["repository"], image[registry.end() :].lstrip(":") or "latest"
    _repository(order, services, repository)
    if _present(services, repository, tag, local):
        order.say(f"nothing  image {image}: the repository holds it")
        return
    order.say(f"create   image {image}: from {local}")
    granted = services.ask("ecr", "GetAuthorizationToken")["authorizationData"][0]
    with tempfile.TemporaryDirectory(prefix="slipway-docker-") as folder:
        host = image.partition("/")[0]
        login = {"auths": {host: {"auth": granted["authorizationToken"]}}}
        (Path(folder) / "config.json").write_text(json.dumps(login), encoding="utf-8")
        try:
            docker("tag", local, image)
            docker("--config", folder, "push", image, timeout_s=PUSH_S)
        except DockerFailed as error:
            raise DeployError(f"the image was not pushed: {error}") from error


def _repository(order: Order, services: Services, name: str) -> None:
    try:
        services.ask("ecr", "DescribeRepositories", repositoryNames=[name])
    except Missing:
        order.say(f"create   repository {name}")
        services.send(create_repository(order.description, name))


def create_repository(description: Description, name: str) -> Call:
    """CreateRepository. It is kept by ``down``: other deployments use its images too."""
    return Call("ecr", "CreateRepository", {"repositoryName": name, "tags": resources.tags(description)})


def _present(services: Services, repository: str, tag: str, local: str) -> bool:
    """Whether the repository's tag is the local image. Raises NotThere without a local image."""
    try:
        digests = docker("image", "inspect", "--format", "{{json .RepoDigests}}", local)
    except DockerFailed as error:
        raise NotThere(f"the image {local} is not on this machine ({error}): build it with make image") from error
    try:
        found = services.ask("ecr", "DescribeImages", repositoryName=repository, imageIds=[{"imageTag": tag}])
    except Missing:
        return False
    return any(one["imageDigest"] in digests for one in found["imageDetails"])
