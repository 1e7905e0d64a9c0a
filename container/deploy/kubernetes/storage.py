"""The storage of a model in a cluster: the claim, image or bucket that its pods read, as volumes of a pod."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from ..description import Description
from ..errors import InvalidDescription

MODEL = "/opt/ml/model"
FETCHED = "/fetched"
ARCHIVE = "model.tar.gz"
ARCHIVES = (".tar.gz", ".tgz")
AWS_IMAGE = "amazon/aws-cli:2.31.0"
"""Downloads from S3; its credentials are those of the service account."""
FORMS = r"(?P<kind>pvc|oci|s3)://(?P<where>[^/\s][^\s]*)"
CLAIM = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Storage:
    """``kind``: pvc, oci or s3. ``where``: what follows ``://``. ``claimed``: the plan creates the claim."""

    kind: str
    where: str
    claimed: bool = False

    @property
    def uri(self) -> str:
        return f"{self.kind}://{self.where}"

    @property
    def claim(self) -> str:
        """The name of the claim."""
        return self.where.partition("/")[0]

    @property
    def folder(self) -> str:
        """The folder in the claim; "": all of it."""
        return self.where.partition("/")[2].strip("/")


def of(description: Description) -> Storage:
    """The storage of a description. Raises InvalidDescription for another form of address."""
    found = re.fullmatch(FORMS, description.storage or "")
    if found is None:
        raise InvalidDescription(
            f"--storage is {description.storage!r}; write pvc://CLAIM/FOLDER, oci://IMAGE or s3://BUCKET/KEY"
        )
    made = Storage(
        found["kind"], found["where"].rstrip("/"), claimed=description.source("storage").startswith("default")
    )
    if made.kind == "pvc" and CLAIM.fullmatch(made.claim) is None:
        raise InvalidDescription(f"--storage {made.uri}: {made.claim!r} is no name of a claim")
    return made


def volumes(storage: Storage) -> list[dict[str, Any]]:
    """The volumes of a pod."""
    if storage.kind == "pvc":
        return [{"name": "model", "persistentVolumeClaim": {"claimName": storage.claim, "readOnly": True}}]
    if storage.kind == "oci":
        return [{"name": "model", "image": {"reference": storage.where, "pullPolicy": "IfNotPresent"}}]
    return [{"name": "model", "emptyDir": {}}, {"name": "fetched", "emptyDir": {}}]


def mounts(storage: Storage) -> list[dict[str, Any]]:
    """The mounts of the container that serves."""
    mount: dict[str, Any] = {"name": "model", "mountPath": MODEL, "readOnly": True}
    if storage.kind == "pvc" and storage.folder:
        mount["subPath"] = storage.folder
    return [mount]


def init_containers(storage: Storage, image: str, security: dict[str, Any]) -> list[dict[str, Any]]:
    """What runs before the server: for S3 a download, and for an archive its unpacking by ``image``."""
    if storage.kind != "s3":
        return []
    archive = storage.uri.endswith(ARCHIVES)
    model = {"name": "model", "mountPath": MODEL}
    fetched = {"name": "fetched", "mountPath": FETCHED}
    copy = ["s3", "cp", "--no-progress"]
    target = [storage.uri, f"{FETCHED}/{ARCHIVE}"] if archive else ["--recursive", f"{storage.uri}/", f"{MODEL}/"]
    download = {
        "name": "download",
        "image": AWS_IMAGE,
        "args": [*copy, *target],
        "env": [{"name": "HOME", "value": FETCHED}],
        "securityContext": security,
        "volumeMounts": [fetched] if archive else [fetched, model],
    }
    if not archive:
        return [download]
    unpack = {
        "name": "unpack",
        "image": image,
        "command": ["python", "-m", "tarfile", "--filter", "data", "-e", f"{FETCHED}/{ARCHIVE}", MODEL],
        "securityContext": security,
        "volumeMounts": [fetched, model],
    }
    return [download, unpack]


def claim_spec(size_bytes: int | None) -> dict[str, Any]:
    """The spec of a claim for twice the model's files, which pods on several nodes can mount."""
    gib = math.ceil(2 * (size_bytes or 0) / GIB) or 1
    return {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": f"{gib}Gi"}}}
