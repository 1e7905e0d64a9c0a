"""The watched registry: the newest approved version of a model package group of SageMaker, downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..local.model import InvalidModel, unpack
from .errors import Unreachable, UpdateError
from .watch import Arrival, digest

PREFIX = "registry:"
Client = Callable[[str], Any]


@dataclass(slots=True)
class Registry:
    """A group of model packages. ``client`` makes the client of a service; ``folder`` gets the models."""

    group: str
    folder: Path
    client: Client

    def look(self) -> Arrival | None:
        """The newest approved version; None if there is none.

        Raises Unreachable if the service does not respond, or the version has no usable model; a later one may.
        """
        try:
            service = self.client("sagemaker")
            found = service.list_model_packages(
                ModelPackageGroupName=self.group,
                ModelApprovalStatus="Approved",
                SortBy="CreationTime",
                SortOrder="Descending",
                MaxResults=1,
            )["ModelPackageSummaryList"]
            if not found:
                return None
            package = service.describe_model_package(ModelPackageName=found[0]["ModelPackageArn"])
            version = str(package.get("ModelPackageVersion") or found[0].get("ModelPackageVersion"))
            url = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
        except (KeyError, IndexError) as error:
            raise Unreachable(f"the newest approved version of {self.group} has no model data") from error
        except Exception as error:  # the client's own classes, made at run time
            raise Unreachable(f"the registry does not respond: {error}") from error
        target = self.folder / version
        if not target.exists():
            self._download(url, target)
        return Arrival(target, digest(target))

    def _download(self, url: str, target: Path) -> None:
        """Download and unpack a model under a hidden name, and rename it."""
        bucket, _, key = url.removeprefix("s3://").partition("/")
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        archive = part.with_suffix(".tar.gz")
        try:
            self.client("s3").download_file(bucket, key, str(archive))
        except Exception as error:  # the client's own classes, made at run time
            raise Unreachable(f"{url} cannot be downloaded: {error}") from error
        try:
            unpack(archive, part)
        except InvalidModel as error:
            raise Unreachable(f"{url} is no model: {error}") from error
        finally:
            archive.unlink(missing_ok=True)
        part.rename(target)


def aws_client(service: str) -> Any:
    """A client with the credentials of the environment. Raises UpdateError without boto3."""
    try:
        import boto3
    except ImportError as error:
        raise UpdateError("a registry needs boto3; install the extra deploy") from error
    return boto3.client(service)
