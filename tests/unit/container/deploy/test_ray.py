"""``--engine ray`` against a stand-in for the dashboard: what is sent, when nothing is, and how failures end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from container.deploy import model_source
from container.deploy.ray import scaling
from container.deploy.ray.scaling import BUSY, WAITING, Load, QueuePolicy, replicas_for
from container.deploy.ray.server import CannotServe, Server, Wanted
from container.deploy.ray.steps import reason_of
from server.settings.options import Settings
from tests.fake_ray import FakeRay, fake_ray
from tests.unit.container.deploy.conftest import Deploy, Ran

RayDeploy = Callable[..., Ran]
OTHER = ("other", "shop.app:app", "/other")
NOBODY = ("--cluster", "http://127.0.0.1:9")


@pytest.fixture
def ray() -> Iterator[FakeRay]:
    with fake_ray() as made:
        yield made


@pytest.fixture
def on_ray(deploy: Deploy, ray: FakeRay) -> RayDeploy:
    """``deploy`` with the stand-in as its cluster."""
    return lambda command, *given: deploy(command, *given, "--engine", "ray", "--cluster", ray.url)


def done(ran: Ran) -> Ran:
    assert ran.code == 0, ran.errors
    return ran


def config(ray: FakeRay, name: str = "digits") -> Any:
    return ray.applications[name]["deployed_app_config"]


def test_a_second_up_changes_nothing(on_ray: RayDeploy, ray: FakeRay, artifact: Path) -> None:
    ray.add(*OTHER)
    first = done(on_ray("up", artifact))
    assert first.lines[0] == "create   application digits"
    assert first.lines[-1] == f"in service: digits at {ray.url.rpartition(':')[0]}:8000/digits"
    assert done(on_ray("up", artifact)).lines == [first.lines[-1] + "; nothing had to change"]
    assert ray.changes == ["PUT"]
    assert "nothing  application digits" in done(on_ray("plan", artifact)).text
    assert list(ray.applications) == ["other", "digits"], "the applications of others stay"


def test_another_model_is_another_release(
    on_ray: RayDeploy, ray: FakeRay, artifact: Path, other_artifact: Path
) -> None:
    assert on_ray("update", artifact).code == 5
    done(on_ray("up", artifact))
    before = config(ray)
    changed = done(on_ray("update", other_artifact))
    assert "becomes" in changed.lines[0]
    assert config(ray)["args"]["release"] != before["args"]["release"]
    assert ray.model("digits") == str(other_artifact)
    # The same folder with other content is another release too: a replica that restarts refuses what it finds.
    shutil.rmtree(artifact)
    shutil.copytree(other_artifact, artifact)
    done(on_ray("up", artifact))
    assert config(ray)["args"]["digest"] != before["args"]["digest"]


def test_other_counts_are_the_same_release(on_ray: RayDeploy, ray: FakeRay, artifact: Path) -> None:
    done(on_ray("up", artifact, "--instance-count", "2"))
    before = config(ray)
    done(on_ray("scale", "digits", "--instance-count", "3"))
    assert config(ray)["deployments"][0]["num_replicas"] == 3
    assert "nothing had to change" in done(on_ray("scale", "digits", "--instance-count", "3")).text
    done(on_ray("up", artifact, "--max-instances", "4"))
    policy = config(ray)["deployments"][0]["autoscaling_config"]["policy"]
    assert policy["policy_kwargs"] == {"queue_rows": 8.0}
    done(on_ray("scale", "digits", "--min-instances", "2", "--max-instances", "6"))
    scaled = config(ray)["deployments"][0]
    assert "num_replicas" not in scaled
    assert scaled["autoscaling_config"]["max_replicas"] == 6
    assert scaled["autoscaling_config"]["policy"] == policy, "scale keeps the target that up derived"
    assert config(ray)["args"] == before["args"]


def test_a_release_that_does_not_start_leaves_the_one_before(
    on_ray: RayDeploy, ray: FakeRay, artifact: Path, other_artifact: Path
) -> None:
    ray.fails = {str(other_artifact)}
    ran = on_ray("up", other_artifact)
    assert ran.code == 10
    assert ran.errors.startswith(f"deploy: digits failed: cannot serve: {other_artifact} is broken; ")
    assert not ray.applications, "what was created is removed"
    done(on_ray("up", artifact))
    assert on_ray("up", other_artifact).code == 10
    assert ray.model("digits") == str(artifact)
    assert ray.applications["digits"]["status"] == "RUNNING"
    kept = on_ray("up", other_artifact, "--keep")
    assert (kept.code, ray.model("digits")) == (10, str(other_artifact))
    assert "failed: cannot serve" in on_ray("up", other_artifact).errors, "an up of what failed tries again"


def test_down_removes_ours_and_with_the_last_one_serve(on_ray: RayDeploy, ray: FakeRay, artifact: Path) -> None:
    assert done(on_ray("down", "digits")).lines == ["nothing to remove"]
    ray.add(*OTHER)
    done(on_ray("up", artifact))
    done(on_ray("down", "digits"))
    assert (list(ray.applications), ray.running) == (["other"], True)
    ray.applications.clear()
    done(on_ray("up", artifact))
    done(on_ray("down", "digits"))
    assert (ray.applications, ray.running) == ({}, False)


def test_applications_of_others_are_left_alone(on_ray: RayDeploy, ray: FakeRay, artifact: Path) -> None:
    ray.add("digits", "shop.app:app", "/shop")
    ray.add("shop", "shop.app:app", "/mine")
    for command, given in (("up", artifact), ("plan", artifact), ("down", "digits"), ("scale", "digits")):
        ran = on_ray(command, given)
        assert (ran.code, len(ran.errors.splitlines())) == (8, 1), ran.errors
    assert on_ray("up", artifact, "--name", "mine").code == 8, "the route is taken"
    assert ray.changes == []


def test_status_invoke_and_logs(on_ray: RayDeploy, ray: FakeRay, artifact: Path, tmp_path: Path) -> None:
    assert on_ray("status", "digits").code == 5
    done(on_ray("up", artifact, "--port", ray.url.rpartition(":")[2]))
    document = done(on_ray("status", "digits", "--json")).document
    assert (document["endpoint"], document["replicas"]) == ("RUNNING", [{"state": "RUNNING", "node": "10.0.0.1"}])
    assert document["url"] == f"{ray.url}/digits"
    body = tmp_path / "body.json"
    body.write_text("{}")
    assert "predictions" in done(on_ray("invoke", "digits", "--body", body)).text
    assert ray.invoked == ["/digits/invocations"]
    assert "filename=serve%2Freplica.log" in done(on_ray("logs", "digits", "--lines", "7")).text
    assert on_ray("invoke", "digits").code == 2, "a name has no stored sample"


def test_a_plan_needs_no_cluster(deploy: Deploy, artifact: Path) -> None:
    ran = done(deploy("plan", artifact, "--engine", "ray", *NOBODY, "--json"))
    assert "no Ray cluster answers" in ran.document["existing"]
    (call,) = ran.document["calls"]
    (made,) = call["parameters"]["applications"]
    assert made["args"]["model"] == str(artifact)
    assert made["deployments"][0]["graceful_shutdown_timeout_s"] == Settings().drain_timeout_s + 10
    settings = ran.document["settings"]
    assert settings["storage"]["source"] == "artifact: the same path on every node"
    assert not {"region", "routing", "instance_type"} & settings.keys(), "only what this engine reads"
    assert all(one["source"] for one in settings.values())
    text = done(deploy("plan", artifact, "--engine", "ray", *NOBODY)).text
    assert "curl --fail-with-body --request PUT" in text
    assert deploy("up", artifact, "--engine", "ray", *NOBODY).code == 11


def test_the_template_is_what_up_sends(on_ray: RayDeploy, deploy: Deploy, ray: FakeRay, artifact: Path) -> None:
    flags = ("--max-instances", "3", "--env", "SLIPWAY_LOG_LEVEL=debug", "--storage", "/models/digits/1")
    made = yaml.safe_load(done(deploy("template", artifact, "--engine", "ray", *flags)).text)
    assert made.keys() == {"proxy_location", "http_options", "applications"}
    done(on_ray("up", artifact, *flags))
    assert made["applications"] == [config(ray)]
    assert made["applications"][0]["args"]["model"] == "/models/digits/1"


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--name", "a/b"), "--name a/b"),
        (("--serverless", "2048"), "serverless"),
        (("--image", "slipway:1"), "image"),
        (("--tag", "team=a"), "tags"),
        (("--env", "SLIPWAY_PORT=9000"), "SLIPWAY_PORT"),
        (("--env", "SLIPWAY_DRAIN_TIMEOUT_S=nan"), "SLIPWAY_DRAIN_TIMEOUT_S"),
        (("--storage", "s3://bucket/digits"), "--storage"),
        (("--instance-count", "0"), "--instance-count 0"),
        (("--max-instances", "2", "--min-instances", "3"), "from 3 to 2"),
        (("--max-instances", "2", "--queue-rows", "0"), "--queue-rows"),
        (("--max-instances", "2", "--env", "SLIPWAY_API_KEYS_FILE=keys"), "SLIPWAY_API_KEYS_FILE"),
        (("--cluster", "127.0.0.1:8265"), "--cluster 127.0.0.1:8265"),
        (("--from-registry",), "no registry"),
    ],
)
def test_what_ray_cannot_do_is_one_sentence(
    flags: tuple[str, ...], word: str, deploy: Deploy, ray: FakeRay, artifact: Path
) -> None:
    ran = deploy("up", artifact, "--engine", "ray", "--cluster", ray.url, *flags)
    assert (ran.code, len(ran.errors.splitlines()), ray.changes) == (2, 1, []), ran.errors
    assert word in ran.errors


def test_what_ray_refuses_is_its_reason(on_ray: RayDeploy, artifact: Path) -> None:
    ran = on_ray("up", artifact, "--name", "refused")
    assert (ran.code, ran.errors.rstrip().rpartition(": ")[2]) == (1, "the reason of the refusal")
    assert on_ray("canary", artifact).code == 1


def test_the_proxies_of_a_running_serve_stay(on_ray: RayDeploy, ray: FakeRay, artifact: Path) -> None:
    ray.add(*OTHER)
    ran = on_ray("up", artifact, "--port", "9000")
    assert (ran.code, ray.changes) == (2, [])
    assert "port 8000" in ran.errors


def test_a_replica_serves_only_what_was_described(artifact: Path, other_artifact: Path) -> None:
    def start(model: Path, digest: str) -> str:
        wanted = Wanted("r", str(model), digest, {}, startup_s=1, drain_s=1)
        with pytest.raises(CannotServe) as failed:
            Server(wanted, "10.0.0.1", print)
        return str(failed.value)

    digest = model_source.find(str(artifact), multi_model=False).files[""].digest
    assert start(artifact / "absent", digest).startswith("cannot serve: node 10.0.0.1 has no ")
    assert "node 10.0.0.1 has another model at" in start(other_artifact, digest)


def test_why_an_application_does_not_run() -> None:
    def reason(*messages: str) -> str:
        return reason_of({"message": "", "deployments": {str(n): {"message": one} for n, one in enumerate(messages)}})

    assert reason("a\n  E: cannot serve: no model\nSee logs") == "cannot serve: no model"
    assert "PYTHONPATH" in reason("Traceback\nModuleNotFoundError: No module named 'container'\nat last")
    assert reason("one replica waits for CPU\n", "") == "one replica waits for CPU"
    assert reason_of({}) == ""


@pytest.mark.parametrize(
    ("present", "waiting", "busy", "wanted"),
    [
        (1, 0.0, 0.0, 1),
        (1, 8.0, 1.0, 1),  # as many rows as may wait
        (1, 9.0, 1.0, 2),
        (1, 99.0, 1.0, 2),  # at most doubled
        (4, 50.0, 4.0, 7),
        (3, 0.0, 2.5, 3),  # nothing waits, but two would be too busy
        (3, 0.0, 1.2, 2),
        (3, 9.0, 0.1, 3),  # much waits
        (2, 0.0, 0.1, 1),
    ],
)
def test_waiting_rows_add_replicas_and_idle_ones_are_given_back(
    present: int, waiting: float, busy: float, wanted: int
) -> None:
    assert replicas_for(present, waiting, busy, queue_rows=8) == wanted


def test_the_policy_waits_for_the_reports_of_new_replicas() -> None:
    class Context:
        target_num_replicas = 3
        aggregated_metrics: dict[str, dict[str, float]] = {WAITING: {"a": 0.0}, BUSY: {"a": 0.0}}  # noqa: RUF012

    policy = QueuePolicy(queue_rows=8)
    assert policy(Context()) == (3, {}), "two replicas start: none is given back"
    Context.aggregated_metrics = {WAITING: {"a": 0.0, "b": 0.0, "c": 0.0}, BUSY: {"a": 0.2, "b": 0.2, "c": 0.2}}
    assert policy(Context()) == (2, {})
    Context.aggregated_metrics = {}
    assert policy(Context()) == (3, {})


def test_the_load_of_a_server() -> None:
    def metrics(rows: int, run_s: float) -> str:
        return (
            "# HELP slipway_queue_rows Rows in the queue\n"
            f'slipway_queue_rows{{model="a b",version="1"}} {rows}\nslipway_queue_rows{{model="c",version="1"}} 1.0\n'
            f'slipway_step_queue_rows{{model="c",version="1",step="x"}} 2.0\nslipway_queue_rows_other 9\n'
            f'slipway_instances{{model="a b",version="1"}} 2\nslipway_run_seconds_total{{model="a b"}} {run_s}\n'
        )

    load = Load()
    assert load.report(metrics(4, 10.0), 100.0) == {WAITING: 7.0}
    assert load.report(metrics(0, 11.0), 101.0) == {WAITING: 3.0, BUSY: 0.5}
    assert scaling.totals(metrics(0, 1.0), ("slipway_absent",)) == {"slipway_absent": 0.0}
