"""The objects of KServe: the ServingRuntime of our image, and the InferenceService of one model."""

from __future__ import annotations

from typing import Any

from ..defaults import Facts
from ..description import Description
from . import objects, pod, storage

MODE = {"serving.kserve.io/deploymentMode": "Standard"}
"""Deployments of Kubernetes, whose pods may have preStop and a start-up probe of their own."""
CONTAINER = "kserve-container"
MODELS = "/mnt/models"
"""Where KServe mounts the model."""
FORMAT = {"name": "slipway", "version": "1"}


def files(description: Description, facts: Facts) -> dict[str, dict[str, Any]]:
    """File name to object, in the order in which they are applied."""
    return {
        "serving-runtime.yaml": serving_runtime(description, facts),
        "inference-service.yaml": inference_service(description),
    }


def serving_runtime(description: Description, facts: Facts) -> dict[str, Any]:
    """The ServingRuntime. ``{{.Name}}`` is the name of the InferenceService, which KServe fills in."""
    container = pod.container(description, facts, CONTAINER)
    container["args"] = ["serve", "--name={{.Name}}", f"--model={MODELS}"]
    container["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    number = str(pod.port(description))
    spec = {
        "annotations": {"prometheus.kserve.io/port": number, "prometheus.kserve.io/path": "/metrics"},
        "supportedModelFormats": [{**FORMAT, "autoSelect": True}, {"name": "onnx", "version": "1"}],
        "protocolVersions": ["v2", "v1"],
        "multiModel": False,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    return objects.thing(description, "serving.kserve.io/v1alpha1", "ServingRuntime", {"spec": spec})


def inference_service(description: Description) -> dict[str, Any]:
    """The InferenceService. KServe makes the Deployment, the Service and the autoscaler of it."""
    place = storage.of(description)
    predictor: dict[str, Any] = {
        "minReplicas": description.min_instances or description.instance_count,
        "maxReplicas": description.max_instances or description.instance_count,
        "terminationGracePeriodSeconds": pod.termination_s(description),
        "securityContext": pod.pod_security(),
        "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "model": {"modelFormat": FORMAT, "runtime": description.name, "protocolVersion": "v2", "storageUri": place.uri},
    }
    if description.max_instances is not None:
        predictor |= {"scaleMetric": "cpu", "scaleTarget": objects.CPU_PERCENT}
    if place.kind == "s3":
        predictor["serviceAccountName"] = description.name
    made = objects.thing(
        description, "serving.kserve.io/v1beta1", "InferenceService", {"spec": {"predictor": predictor}}
    )
    made["metadata"].setdefault("annotations", {}).update(MODE)
    return made
