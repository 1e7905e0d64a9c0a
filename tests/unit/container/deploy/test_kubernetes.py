"""``plan --engine kubernetes``: the objects pass the schemas of Kubernetes; KServe's have the CRDs' fields."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from server.settings.options import Settings
from tests.fake_account import IMAGE
from tests.unit.container.deploy.conftest import Deploy, Ran

BASE = ("--engine", "kubernetes", "--image", IMAGE)
SCALED = ("--max-instances", "3")
STORES = {
    "claim": (),
    "folder of a claim": ("--storage", "pvc://models/digits/1"),
    "image": ("--storage", "oci://registry.example/digits:1"),
    "archive": ("--storage", "s3://bucket/digits/model.tar.gz", "--role", "arn:aws:iam::123456789012:role/reader"),
    "bucket": ("--storage", "s3://bucket/digits"),
}
RUNTIME_KEYS = {"annotations", "supportedModelFormats", "protocolVersions", "multiModel", "containers", "volumes"}
"""Of spec in the CRD servingruntimes.serving.kserve.io, v1alpha1, those that are used."""
PREDICTOR_KEYS = {"minReplicas", "maxReplicas", "deploymentStrategy", "model", "scaleMetric", "scaleTarget"}
"""Of spec.predictor in the CRD inferenceservices.serving.kserve.io, v1beta1; the others are those of a pod."""
MODEL_KEYS = {"modelFormat", "runtime", "protocolVersion", "storageUri"}


def planned(deploy: Deploy, artifact: Path, *flags: str | Path) -> Any:
    ran = deploy("plan", artifact, *BASE, *flags, "--json")
    assert ran.code == 0, ran.errors
    return ran.document


def objects(document: Any) -> dict[str, Any]:
    return {call["parameters"]["kind"]: call["parameters"] for call in document["calls"]}


def container(document: Any) -> dict[str, Any]:
    found: dict[str, Any] = objects(document)["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    return found


def valid(one: dict[str, Any]) -> None:
    kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("stored", STORES)
@pytest.mark.parametrize("flags", [(), (*SCALED, "--scaling-target", "600", "--tag", "team=a b", "--env", "A=1")])
def test_the_objects_pass_the_schemas(flags: tuple[str, ...], stored: str, deploy: Deploy, artifact: Path) -> None:
    made = objects(planned(deploy, artifact, *flags, *STORES[stored]))
    for one in made.values():
        valid(one)
    assert {"Deployment", "Service", "PodDisruptionBudget"} <= made.keys()
    assert ("HorizontalPodAutoscaler" in made) == bool(flags)
    assert ("PersistentVolumeClaim" in made) == (stored == "claim")
    assert ("ServiceAccount" in made) == (stored in ("archive", "bucket"))
    pod = made["Deployment"]["spec"]["template"]["spec"]
    mounted = {
        mount["name"] for one in (*pod["containers"], *pod.get("initContainers", ())) for mount in one["volumeMounts"]
    }
    assert mounted == {one["name"] for one in pod["volumes"]}


def test_the_schemas_refuse_an_unknown_field(deploy: Deploy, artifact: Path) -> None:
    wrong = copy.deepcopy(objects(planned(deploy, artifact))["Deployment"])
    wrong["spec"]["template"]["spec"]["containers"][0]["memory"] = "1Gi"
    with pytest.raises(kubernetes_validate.ValidationError):
        valid(wrong)


@pytest.mark.parametrize("stored", STORES)
def test_the_objects_of_kserve(stored: str, deploy: Deploy, artifact: Path) -> None:
    *before, runtime, service = planned(deploy, artifact, *SCALED, *STORES[stored])["kserve"]
    stores = {"claim": ["PersistentVolumeClaim"], "archive": ["ServiceAccount"], "bucket": ["ServiceAccount"]}
    assert [one["kind"] for one in before] == stores.get(stored, [])
    assert (runtime["apiVersion"], runtime["kind"]) == ("serving.kserve.io/v1alpha1", "ServingRuntime")
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    spec, predictor = runtime["spec"], service["spec"]["predictor"]
    assert spec.keys() <= RUNTIME_KEYS
    assert predictor["model"].keys() <= MODEL_KEYS
    assert predictor["scaleMetric"] in ("cpu", "memory", "concurrency", "rps")
    assert spec["containers"][0]["name"] == "kserve-container"
    wanted = predictor["model"]["modelFormat"]
    assert any(wanted.items() <= one.items() for one in spec["supportedModelFormats"])
    assert predictor["model"]["protocolVersion"] in spec["protocolVersions"]
    # What is left of both is a pod.
    pod = {key: value for key, value in predictor.items() if key not in PREDICTOR_KEYS}
    pod |= {"containers": spec["containers"], "volumes": spec["volumes"]}
    valid({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod})


def test_files_are_the_objects(deploy: Deploy, artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "objects"
    ran = deploy("plan", artifact, *BASE, *SCALED, "--out", out)
    assert ran.code == 0, ran.errors
    document = planned(deploy, artifact, *SCALED)
    plain = [yaml.safe_load(path.read_text()) for path in out.glob("*.yaml")]
    for_kserve = [yaml.safe_load(path.read_text()) for path in (out / "kserve").glob("*.yaml")]
    assert {one["kind"]: one for one in plain} == objects(document)
    assert sorted(for_kserve, key=str) == sorted(document["kserve"], key=str)


def test_the_text_is_one_stream_of_yaml(deploy: Deploy, artifact: Path) -> None:
    ran = deploy("plan", artifact, *BASE, "--env", "A=line\n- kind: Secret\n---\n", "--tag", "team=yes")
    made = list(yaml.safe_load_all(ran.text))
    assert [one["kind"] for one in made] == [one["parameters"]["kind"] for one in _again(deploy, artifact)]
    assert made[0]["metadata"]["annotations"] == {"team": "yes"}


def _again(deploy: Deploy, artifact: Path) -> Any:
    return planned(deploy, artifact)["calls"]


def test_the_end_of_a_pod_covers_the_drain(deploy: Deploy, artifact: Path) -> None:
    def seconds(*flags: str) -> int:
        found: int = objects(planned(deploy, artifact, *flags))["Deployment"]["spec"]["template"]["spec"][
            "terminationGracePeriodSeconds"
        ]
        return found

    # preStop 5, the image's grace 5, the server's drain, margin 5.
    assert seconds() == 15 + Settings().drain_timeout_s
    assert seconds("--env", "SLIPWAY_DRAIN_TIMEOUT_S=90", "--env", "SLIPWAY_DRAIN_GRACE_S=0") == 100


def test_readiness_follows_ping_and_liveness_does_not(deploy: Deploy, artifact: Path) -> None:
    flags = ("--env", "SLIPWAY_PORT=9000", "--env", "SLIPWAY_TLS_CERT=/tls/cert.pem")
    made = container(planned(deploy, artifact, *flags))
    assert made["ports"] == [{"name": "http", "containerPort": 9000}]
    assert made["readinessProbe"]["httpGet"] == {"path": "/ping", "port": "http", "scheme": "HTTPS"}
    assert made["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    assert made["startupProbe"]["failureThreshold"] * made["startupProbe"]["periodSeconds"] >= 120


def test_resources_can_be_given(deploy: Deploy, artifact: Path) -> None:
    assert container(planned(deploy, artifact))["resources"]["limits"]["memory"].endswith("Mi")
    flags = ("--component-cpus", "1.5", "--component-memory", "700", "--component-accelerators", "1")
    made = container(planned(deploy, artifact, *flags))["resources"]
    assert made["requests"] == {"cpu": "1500m", "memory": "700Mi"}
    assert made["limits"] == {"cpu": "1500m", "memory": "700Mi", "nvidia.com/gpu": "1"}


def test_an_s3_artifact_is_its_own_storage(deploy: Deploy) -> None:
    ran = deploy("plan", "s3://bucket/models/model.tar.gz", *BASE, "--name", "digits", "--json")
    assert ran.code == 0, ran.errors
    init = objects(ran.document)["Deployment"]["spec"]["template"]["spec"]["initContainers"]
    assert [one["name"] for one in init] == ["download", "unpack"]
    assert "s3://bucket/models/model.tar.gz" in init[0]["args"]


def refused(deploy: Deploy, artifact: Path, *flags: str) -> Ran:
    ran = deploy("plan", artifact, *BASE, *flags)
    assert (ran.code, ran.lines) == (2, [])
    assert len(ran.errors.splitlines()) == 1
    return ran


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--name", "Digits"), "--name Digits"),
        (("--name", "3d"), "--name 3d"),
        (("--name", "a" * 51), "50"),
        (("--serverless", "2048"), "serverless"),
        (("--multi-model",), "multi-model"),
        (("--storage", "models/digits"), "--storage"),
        (("--storage", "pvc://Claim/x"), "'Claim'"),
        (("--tag", "a key=1"), "--tag a key"),
        (("--env", "SLIPWAY_PORT=0"), "SLIPWAY_PORT=0"),
        (("--env", "SLIPWAY_DRAIN_TIMEOUT_S=nan"), "SLIPWAY_DRAIN_TIMEOUT_S"),
        (("--max-instances", "2", "--min-instances", "3"), "from 3 to 2"),
    ],
)
def test_what_a_cluster_refuses_is_one_sentence(
    flags: tuple[str, ...], word: str, deploy: Deploy, artifact: Path, tmp_path: Path
) -> None:
    if flags == ("--multi-model",):
        (tmp_path / "models").mkdir()
        artifact = artifact.rename(tmp_path / "models" / "digits").parent
    assert word in refused(deploy, artifact, *flags).errors
