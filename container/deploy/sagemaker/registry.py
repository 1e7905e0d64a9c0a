"""The model registry: versions with evidence, their approval, and the model of the newest approved one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import evidence, model_source, service_model
from ..calls import BODY, DIGEST_CHARACTERS, Call
from ..description import Description
from ..errors import InvalidDescription, NotThere
from ..model_source import ModelFile
from ..order import Order
from . import resources
from .services import Missing, Services

APPROVED, REJECTED, PENDING = "Approved", "Rejected", "PendingManualApproval"
REQUEST_TYPES = ["application/json", "application/jsonlines", "text/csv", "application/x-npy"]
JSON = "application/json"


def register(order: Order, services: Services) -> tuple[str, bool]:
    """The version's ARN, and whether it is new. An artifact that is registered already stays one version."""
    description = order.description
    description.require("image", "group", "bucket")
    model = evidence.artifact_of(order.facts)
    present = next((one for one in versions(order, services) if model.digest in _said(one)), None)
    if present is not None:
        return str(present["ModelPackageArn"]), False
    calls = list(_calls(description, model))
    service_model.check(calls)
    services.send(calls[0]) if not _group_there(description, services) else None
    there = _objects(description, services)
    for call in calls[1:-1]:
        if call.parameters["Key"] not in there:
            order.say(f"create   object s3://{description.bucket}/{call.parameters['Key']}")
            services.send(call)
    return str(services.send(calls[-1])["ModelPackageArn"]), True


def versions(order: Order, services: Services, **more: Any) -> list[dict[str, Any]]:
    """The versions of the group, the newest first; [] without a group."""
    asked = {"ModelPackageGroupName": order.description.group, "SortBy": "CreationTime", "SortOrder": "Descending"}
    try:
        found = list(services.pages("sagemaker", "ListModelPackages", "ModelPackageSummaryList", **asked, **more))
    except Missing:
        return []
    return sorted(found, key=lambda one: -int(one["ModelPackageVersion"]))


def approve(order: Order, services: Services) -> dict[str, Any]:
    """Approve or reject a version and return it. Raises NotThere."""
    found = versions(order, services)
    wanted = [one for one in found if order.version in (None, one["ModelPackageVersion"])]
    if not wanted:
        which = f"version {order.version}" if order.version is not None else "version"
        raise NotThere(f"the group {order.description.group} has no {which}: run register first")
    status = REJECTED if order.reject else APPROVED
    if wanted[0]["ModelApprovalStatus"] != status:
        parameters = {"ModelPackageArn": wanted[0]["ModelPackageArn"], "ModelApprovalStatus": status}
        if order.reason:
            parameters["ApprovalDescription"] = order.reason
        services.send(Call("sagemaker", "UpdateModelPackage", parameters))
    return {**wanted[0], "ModelApprovalStatus": status}


def approved_model(order: Order, services: Services) -> Call:
    """CreateModel of the newest approved version. Raises NotThere where no version is approved."""
    found = versions(order, services, ModelApprovalStatus=APPROVED)
    if not found:
        raise NotThere(f"the group {order.description.group} has no approved version: run register, then approve")
    container = {"ModelPackageName": found[0]["ModelPackageArn"]}
    if order.description.specification is not None:
        container["InferenceSpecificationName"] = order.description.specification
    return resources.model_of(order.description, container)


def _said(version: dict[str, Any]) -> str:
    return str(version.get("ModelPackageDescription", ""))


def _group_there(description: Description, services: Services) -> bool:
    try:
        services.ask("sagemaker", "DescribeModelPackageGroup", ModelPackageGroupName=description.group)
    except Missing:
        return False
    return True


def _objects(description: Description, services: Services) -> set[str]:
    prefix = resources.registry_prefix(description)
    try:
        listed = services.pages("s3", "ListObjectsV2", "Contents", Bucket=description.bucket, Prefix=prefix)
        return {one["Key"] for one in listed}
    except Missing:
        services.send(resources.bucket(description))
        return set()


def _calls(description: Description, model: ModelFile) -> Iterator[Call]:
    """The group, the objects, and the version, in this order."""
    assert model.manifest is not None
    yield Call(
        "sagemaker",
        "CreateModelPackageGroup",
        {"ModelPackageGroupName": description.group, "Tags": resources.tags(description)},
    )
    folder = resources.registry_prefix(description) + model.digest[:DIGEST_CHARACTERS]
    candidates = _candidates(description)
    yield _put(description, f"{folder}/{BODY}", model)
    for name, one in candidates.items():
        yield _put(description, f"{folder}/{name}/{BODY}", one)
    documents = {"quality.json": evidence.quality(model.manifest), "bias.json": evidence.bias(model.manifest)}
    for name, document in documents.items():
        body = json.dumps(document, indent=2).encode()
        yield Call("s3", "PutObject", {"Bucket": description.bucket, "Key": f"{folder}/{name}", "Body": body})
    yield _version(description, model, f"s3://{description.bucket}/{folder}", candidates)


def _put(description: Description, key: str, model: ModelFile) -> Call:
    parameters = {"Bucket": description.bucket, "Key": key, "Body": BODY}
    return Call("s3", "PutObject", parameters, upload=model)


def _candidates(description: Description) -> dict[str, ModelFile]:
    """Further artifacts by the name of their candidate. Raises InvalidDescription."""
    found = {}
    for path in description.candidates:
        one = model_source.find(path, multi_model=False).files.get("")
        if one is None or one.manifest is None:
            raise InvalidDescription(f"--candidates {path} is not an artifact of optimize")
        name = "".join(
            sign if sign.isalnum() else "-" for sign in str(one.manifest.evidence.get("chosen") or Path(path).name)
        )
        found[name.strip("-")] = one
    return found


def _version(description: Description, model: ModelFile, where: str, candidates: dict[str, ModelFile]) -> Call:
    assert model.manifest is not None
    metrics = {
        "ModelQuality": {"Statistics": {"ContentType": JSON, "S3Uri": f"{where}/quality.json"}},
        "Bias": {"Report": {"ContentType": JSON, "S3Uri": f"{where}/bias.json"}},
    }
    parameters: dict[str, Any] = {
        "ModelPackageGroupName": description.group,
        "ModelPackageDescription": f"{model.manifest.name} {model.manifest.version}, artifact {model.digest}",
        "InferenceSpecification": _specification(description, f"{where}/{BODY}"),
        "ModelApprovalStatus": PENDING,
        "ModelMetrics": metrics,
        "CustomerMetadataProperties": evidence.metadata(model.manifest, model.digest),
    }
    if candidates:
        parameters["AdditionalInferenceSpecifications"] = [
            {"Name": name, **_specification(description, f"{where}/{name}/{BODY}")} for name in candidates
        ]
    return Call("sagemaker", "CreateModelPackage", parameters)


def _specification(description: Description, url: str) -> dict[str, Any]:
    container: dict[str, Any] = {"Image": description.image, "ModelDataUrl": url}
    if description.environment:
        container["Environment"] = dict(description.environment)
    made: dict[str, Any] = {
        "Containers": [container],
        "SupportedContentTypes": REQUEST_TYPES,
        "SupportedResponseMIMETypes": REQUEST_TYPES,
    }
    if description.instance_type is not None:
        made["SupportedRealtimeInferenceInstanceTypes"] = [description.instance_type]
    return made
