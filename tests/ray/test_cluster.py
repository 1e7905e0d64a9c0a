"""``container.deploy --engine ray`` on two nodes: what an update, a dead server, load and a lost node do to requests.

The tests share one cluster and run in their order: the last ones take a node and the deployment away. Their figures are
lines of the report, and stand in docs/deploy.md.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from container.deploy.ray.scaling import QUEUES, totals
from tests.integration import sample_models, server_process
from tests.ray.conftest import RayCluster
from tests.ray.nodes import HEAD_ADDRESS, WORKER_ADDRESS

pytestmark = [pytest.mark.ray, pytest.mark.timeout(480)]

Models = Callable[[int], Path]
Report = Callable[[str, Any], None]
CLIENTS = 16
LEAST = 20_000
TWO = ("--instance-count", "2")
LINES = b"[1,2,3,4]\n"
JSON = {"Content-Type": "application/json"}


def eventually(look: Callable[[], Any], what: str, patience_s: float = 90.0) -> None:
    """A cluster is slower than a server."""
    server_process.eventually(look, what, patience_s, every_s=0.2)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Writes a line of figures."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")

    def write(name: str, values: Any) -> None:
        if reporter is not None:
            reporter.write_line(f"\n{name}: {json.dumps(values)}")

    return write


def ask(cluster: RayCluster, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
    """The response, and the pieces of its body as they arrived."""
    with cluster.nodes.head.inside():
        client = http.client.HTTPConnection(HEAD_ADDRESS, 8000, timeout=60)
        client.connect()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    client.request(method, f"/digits{path}", body, given)
    response = client.getresponse()
    pieces = []
    while piece := response.read1():
        pieces.append(piece)
    client.close()
    return response, pieces


def metric(cluster: RayCluster, name: str) -> float:
    """The sum of a metric of a deployment with one replica."""
    return totals(b"".join(ask(cluster, "GET", "/metrics")[1]).decode(), (name,))[name]


def servers(cluster: RayCluster) -> set[int]:
    return cluster.nodes.head.servers() | cluster.nodes.worker.servers()


def test_a_second_up_changes_nothing(cluster: RayCluster, models: Models) -> None:
    assert "create   application digits" in cluster.up(models(1), *TWO).text
    assert cluster.running() == [HEAD_ADDRESS, WORKER_ADDRESS], "a replica on each node"
    before = servers(cluster)
    assert len(before) == 2
    assert "nothing had to change" in cluster.up(models(1), *TWO).text
    assert servers(cluster) == before
    assert "is served at http://127.0.0.1:" in cluster.deploy("logs", "digits").text


def test_scale_keeps_the_replicas_that_run(cluster: RayCluster, models: Models) -> None:
    cluster.up(models(1), *TWO)
    before = servers(cluster)
    assert cluster.deploy("scale", "digits", "--instance-count", "3").code == 0
    assert len(servers(cluster)) == 3
    assert before < servers(cluster)
    cluster.up(models(1), *TWO)
    assert len(servers(cluster)) == 2


def test_serve_takes_the_template(cluster: RayCluster, models: Models) -> None:
    made = cluster.deploy("template", models(1), "--max-instances", "3")
    assert made.code == 0, made.errors
    check = (
        "import json, sys, yaml; from ray.serve.schema import ServeDeploySchema; "
        "made = ServeDeploySchema.model_validate(yaml.safe_load(sys.argv[1])); "
        "print(json.dumps(made.model_dump(exclude_unset=True, mode='json')))"
    )
    read = json.loads(cluster.nodes.head.run([cluster.nodes.python, "-c", check, made.text]).splitlines()[-1])
    assert read["applications"][0]["args"]["model"] == str(models(1))


def test_requests_pass_unchanged(cluster: RayCluster, models: Models) -> None:
    cluster.up(models(1), *TWO)
    response, pieces = ask(cluster, "GET", "/v2/models/model?x=%2F", X_Request_Id="mine")
    assert (response.status, response.getheader("X-Request-Id")) == (200, "mine")
    assert json.loads(b"".join(pieces))["inputs"][0]["datatype"] == "FP32"
    response, pieces = ask(cluster, "GET", "/v2/models/a%20b")
    assert (response.status, json.loads(b"".join(pieces))["code"]) == (404, "unknown_model")
    assert b"a b" in b"".join(pieces)
    response, pieces = ask(cluster, "POST", "/invocations", b"[", Content_Type="application/json")
    assert (response.status, json.loads(b"".join(pieces))["code"]) == (400, "malformed_input")
    assert ask(cluster, "HEAD", "/ping")[0].status in (200, 405)
    # Larger than what passes as a whole, in both directions.
    rows = LINES * 200_000
    response, pieces = ask(
        cluster, "POST", "/invocations", rows, Content_Type="application/jsonlines", Accept="application/jsonlines"
    )
    assert response.status == 200
    assert b"".join(pieces).count(b"\n") == 200_000


def test_pieces_of_a_response_arrive_as_they_are_made(cluster: RayCluster, tmp_path: Path) -> None:
    slow = sample_models.fake(tmp_path / "slow", batch_sizes=(1,), wait_us=100_000)
    cluster.up(slow)
    stream = {"X_Amzn_SageMaker_Forwarded_Api": "InvokeEndpointWithResponseStream"}
    lines = {"Content_Type": "application/jsonlines", "Accept": "application/jsonlines"}
    response, pieces = ask(cluster, "POST", "/invocations", LINES * 10, **lines, **stream)
    assert (response.status, response.getheader("Transfer-Encoding")) == (200, "chunked")
    assert b"".join(pieces).count(b"\n") == 10
    assert len(pieces) >= 5


def test_a_client_that_leaves_ends_its_work(cluster: RayCluster, tmp_path: Path) -> None:
    slow = sample_models.fake(tmp_path / "slow", batch_sizes=(1,), wait_us=100_000)
    cluster.up(slow)
    with cluster.nodes.head.inside():
        client = http.client.HTTPConnection(HEAD_ADDRESS, 8000, timeout=60)
        client.connect()
    client.request("POST", "/digits/invocations", LINES * 60, {"Content-Type": "application/jsonlines"})
    eventually(lambda: metric(cluster, QUEUES[0]) > 0, "its rows wait")
    client.close()
    eventually(lambda: metric(cluster, QUEUES[0]) == 0, "its rows are dropped", patience_s=3)


def test_a_rolling_update_under_load_loses_nothing(cluster: RayCluster, models: Models, report: Report) -> None:
    cluster.up(models(1), *TWO)
    updates = []
    with cluster.load(CLIENTS, LEAST) as load:
        for factor in (2, 3, 4, 5):
            begun = time.monotonic()
            cluster.up(models(factor), *TWO)
            updates.append(round(time.monotonic() - begun, 1))
        load.mark()  # answers to requests that are sent from here on
        result = load.end()
    report("rolling update", {**result, "updates_s": updates})
    assert result["failed"] == {}
    assert result["sent"] == sum(result["right"].values()) >= LEAST
    assert result["right"].keys() == {"1", "2", "3", "4", "5"}, "all updates happened under load"
    assert result["after"].keys() == {"5"}, "after an update only the new release answers"


def test_a_release_that_cannot_start_loses_nothing(cluster: RayCluster, models: Models, report: Report) -> None:
    cluster.up(models(1), *TWO)
    with cluster.load(CLIENTS) as load:
        ran = cluster.deploy("up", models(2), "--name", "digits", *TWO, "--storage", "/nowhere")
        result = load.end()
    report("release that cannot start", result)
    assert ran.code == 10
    assert "has no /nowhere: put the model there" in ran.errors
    assert "the release before serves again" in ran.errors
    assert result["failed"] == {}
    assert result["right"].keys() == {"1"}


def test_a_killed_server_is_replaced_with_its_replica(cluster: RayCluster, models: Models, report: Report) -> None:
    cluster.up(models(1), *TWO)
    before = servers(cluster)
    (victim,) = cluster.nodes.worker.servers()
    with cluster.load(CLIENTS) as load:
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        eventually(lambda: len(servers(cluster) - {victim}) == 2 and len(cluster.running()) == 2, "a new replica runs")
        recovered_s = time.monotonic() - killed
        result = load.end()
    report("kill -9 of a server", {**result, "recovered_s": round(recovered_s, 1)})
    assert before - servers(cluster) == {victim}, "the other replica went on"
    assert sum(result["failed"].values()) <= CLIENTS, "at most the requests under way are lost"


def test_waiting_rows_add_a_replica_and_idle_ones_end(cluster: RayCluster, tmp_path: Path, report: Report) -> None:
    slow = sample_models.fake(tmp_path / "slow", batch_sizes=(1, 2), wait_us=50_000)
    cooldowns = ("--scale-out-cooldown", "1", "--scale-in-cooldown", "3")
    cluster.up(slow, "--max-instances", "3", "--queue-rows", "2", *cooldowns)
    eventually(lambda: len(cluster.running()) == 1, "without load one replica is left")
    begun = time.monotonic()
    with cluster.load(CLIENTS) as load:
        eventually(lambda: len(cluster.running()) >= 2, "waiting rows add a replica")
        added_s = time.monotonic() - begun
        result = load.end()
    ended = time.monotonic()
    eventually(lambda: len(cluster.running()) == 1 and len(servers(cluster)) == 1, "idle replicas end")
    report("scaling", {**result, "added_s": round(added_s, 1), "removed_s": round(time.monotonic() - ended, 1)})
    assert result["failed"].keys() <= {"429"}, "an overloaded server refuses; nothing is lost while replicas end"


def test_a_lost_node_costs_what_it_had_under_way(cluster: RayCluster, models: Models, report: Report) -> None:
    cluster.up(models(1), *TWO)
    assert cluster.running() == [HEAD_ADDRESS, WORKER_ADDRESS]
    with cluster.load(CLIENTS, proxies=(HEAD_ADDRESS, WORKER_ADDRESS)) as load:
        cluster.nodes.worker.kill()
        killed = time.monotonic()
        eventually(lambda: cluster.running() == [HEAD_ADDRESS, HEAD_ADDRESS], "both replicas run on the other node")
        recovered_s = time.monotonic() - killed
        load.mark()
        result = load.end()
    report("lost node", {**result, "recovered_s": round(recovered_s, 1)})
    assert sum(result["failed"].values()) <= 2 * CLIENTS
    assert sum(result["after"].values()) > 0


def test_down_leaves_nothing(cluster: RayCluster, models: Models) -> None:
    cluster.up(models(1))
    left = servers(cluster)
    assert left
    assert "removed: digits" in cluster.deploy("down", "digits").text
    assert not servers(cluster)
    assert cluster.deploy("down", "digits").text == "nothing to remove"
    with pytest.raises(OSError, match="refused"):
        ask(cluster, "GET", "/ping")
