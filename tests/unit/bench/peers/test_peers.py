"""The comparison with other servers: configured as declared, checked for the right answer, valid or marked invalid."""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.commands import peers as command
from bench.errors import Unusable
from bench.peers import environments, figures, interference, loads, process, rounds, show, table, workload
from bench.peers.figures import Figure, Load, RoundResult
from bench.peers.peer import HOST, Deployment, Peer, service

FAKE = Path(__file__).with_name("fake_peer.py")
MODEL = workload.MODELS[0]
GOOD = Figure(1000.0, 1.0, 2.0, 1000, 0, 0.2)
OTHERS = [one for one in table.PEERS if one.lock is not None]


def fake(mode: str, name: str = "fake") -> Peer:
    return Peer(
        name=name,
        title=name.capitalize(),
        package=None,
        lock=None,
        files=lambda deployment: {"answer.json": json.dumps({"output": workload.expected(deployment.model)})},
        command=lambda deployment: [str(deployment.python), str(FAKE), str(deployment.port), mode],
        ready="/health",
        route="/predict",
        body=lambda row: {"input": row},
        answer=lambda answer: list(answer["output"]),
        settings=(mode,),
        advice=("https://example.org/how",),
        ready_within_s=30.0,
    )


def deployment(tmp_path: Path, workers: int = 1) -> Deployment:
    return Deployment(
        tmp_path, Path("/env/bin/python"), (1001, 1002, 1003, 1004, 1005, 1006), tmp_path / "m.onnx", workers
    )


def config(
    tmp_path: Path, *peers: Peer, measure: loads.Measure, rate: float | None = 10.0, number: int = 1
) -> rounds.ComparisonConfig:
    core = min(os.sched_getaffinity(0))
    pythons = {one.name: Path(sys.executable) for one in peers}
    return rounds.ComparisonConfig(
        peers, pythons, (MODEL,), number, 0.1, rate, (core,), core, tmp_path, 1, measure, 0.1
    )


def three_questions(url: str, body: bytes, _load: Load, _seconds: float, _seed: int) -> Figure:
    """A load without a clock: asks three times, and counts what failed."""
    failures = 0
    for _ in range(3):
        connection = http.client.HTTPConnection(*_address(url), timeout=10)
        try:
            connection.request("POST", "/predict", body)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            failures += 1
        finally:
            connection.close()
    return replace(GOOD, failures=failures)


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.split("/")[2].partition(":")
    return host, int(port)


def measured(of: rounds.ComparisonConfig) -> list[RoundResult]:
    visits: list[RoundResult] = []
    rounds.run(of, {}, visits.append, lambda _text: None)
    return visits


@pytest.mark.parametrize("peer", OTHERS, ids=lambda one: one.name)
def test_an_environment_is_pinned_to_the_last_package(peer: Peer) -> None:
    assert peer.lock is not None
    lines = peer.lock.read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[^=\s]+", line) for line in lines)
    assert environments.version(peer)
    assert any(line.startswith("onnxruntime==") for line in lines)


@pytest.mark.parametrize("peer", table.PEERS, ids=lambda one: one.name)
def test_what_a_peer_is_given_is_local_and_readable(peer: Peer, tmp_path: Path) -> None:
    files, here = peer.files(deployment(tmp_path)), deployment(tmp_path)
    told = " ".join([*files.values(), *peer.command(here)])
    assert HOST in told
    assert "0.0.0.0" not in told
    assert "1001" in told
    for name, text in files.items():
        if name.endswith(".json"):
            json.loads(text)
        if name.endswith(".py"):
            compile(text, name, "exec")
    assert json.loads(workload.payload(peer))
    assert peer.settings
    assert peer.advice


def test_every_core_gets_its_worker(tmp_path: Path) -> None:
    by_name = {one.name: one.files(deployment(tmp_path, workers=3)) for one in OTHERS}
    assert json.loads(by_name["litserve"]["service.json"])["workers"] == 3
    assert json.loads(by_name["mlserver"]["settings.json"])["parallel_workers"] == 3
    assert "minWorkers: 3" in by_name["torchserve"]["model-config.yaml"]


def test_one_core_has_no_pool_in_mlserver(tmp_path: Path) -> None:
    (mlserver,) = (one for one in OTHERS if one.name == "mlserver")
    assert json.loads(mlserver.files(deployment(tmp_path))["settings.json"])["parallel_workers"] == 0


def test_every_form_of_an_answer_is_understood() -> None:
    answers: dict[str, Any] = {
        "slipway": {"predictions": [[1, 2]]},
        "litserve": {"output": [1, 2]},
        "bentoml": [[1, 2]],
        "mlserver": {"outputs": [{"data": [1, 2]}]},
        "ray_serve": {"output": [1, 2]},
        "torchserve": {"output": [1, 2]},
        "triton": {"outputs": [{"data": [1, 2]}]},
    }
    assert {one.name: one.answer(answers[one.name]) for one in table.PEERS} == {key: [1.0, 2.0] for key in answers}


def test_nobody_phones_home() -> None:
    switches = {key: value for one in OTHERS for key, value in one.environment.items()}
    assert switches["BENTOML_DO_NOT_TRACK"] == "True"
    assert switches["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_service_is_told_where_it_is(tmp_path: Path) -> None:
    files = service("litserve", deployment(tmp_path), wait_s=0.5)
    assert json.loads(files["service.json"]) | {"model": ""} == {
        "host": HOST,
        "port": 1001,
        "model": "",
        "max_batch_size": 32,
        "workers": 1,
        "wait_s": 0.5,
    }


def test_an_environment_is_made_only_when_asked(tmp_path: Path) -> None:
    peer = replace(fake("right"), lock=tmp_path / "lock.txt")
    (tmp_path / "lock.txt").write_text("one==1\n")
    with pytest.raises(environments.Missing, match="is not installed: run peers with --install"):
        environments.python_of(peer, tmp_path, False, pytest.fail)
    python = tmp_path / "fake" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    (tmp_path / "fake" / environments.STAMP).write_text(environments.digest(tmp_path / "lock.txt"))
    assert environments.python_of(peer, tmp_path, False, pytest.fail) == python
    (tmp_path / "lock.txt").write_text("one==2\n")
    with pytest.raises(environments.Missing, match="installed from other requirements"):
        environments.python_of(peer, tmp_path, False, pytest.fail)


def test_a_program_that_pip_cannot_install_is_named(tmp_path: Path) -> None:
    with pytest.raises(environments.Missing, match="it needs no-such-program"):
        environments.python_of(replace(fake("right"), needs=("no-such-program",)), tmp_path, True, pytest.fail)


def test_servers_and_load_have_cores_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {2, 3, 5})
    assert rounds.choose_cores(None) == ((2,), 5)
    assert rounds.choose_cores((2, 5)) == ((2, 5), 3)
    with pytest.raises(Unusable, match="a core of its own"):
        rounds.choose_cores((2, 3, 5))
    with pytest.raises(Unusable, match="there are no"):
        rounds.choose_cores((7,))


def test_a_server_that_is_right_is_measured_in_every_round(tmp_path: Path) -> None:
    visits = measured(config(tmp_path, fake("right"), measure=three_questions, number=2))
    assert [(one.round, one.trouble) for one in visits] == [(0, None), (1, None)]
    assert all(set(one.figures) == {"one", "many", "open"} for one in visits)
    assert all(one.start_s is not None and one.start_s > 0 for one in visits)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("never", "it ended with status 1; its log ends: no licence found"),
        ("wrong", "its answer is wrong: [1, 2] instead of"),
        ("public", "it listens on 0.0.0.0:"),
        ("dies:6", "it ended with status 9; its log ends: out of memory"),
    ],
)
def test_who_fails_is_told_and_the_others_go_on(mode: str, words: str, tmp_path: Path) -> None:
    bad, good = measured(config(tmp_path, fake(mode, "bad"), fake("right", "good"), measure=three_questions))
    assert bad.trouble is not None
    assert words in bad.trouble
    assert "open" not in bad.figures
    assert good.trouble is None


def test_the_open_loop_offers_half_of_what_the_slowest_reached(tmp_path: Path) -> None:
    def measure(url: str, body: bytes, load: Load, seconds: float, seed: int) -> Figure:
        three_questions(url, body, load, seconds, seed)
        return replace(GOOD, rate_per_s=load.rate_per_s or 246.0)

    of_models: dict[str, tuple[Load, ...]] = {}
    visits: list[RoundResult] = []
    peers = (fake("never", "bad"), fake("right", "good"))
    rounds.run(config(tmp_path, *peers, measure=measure, rate=None), of_models, visits.append, lambda _text: None)
    assert of_models[MODEL.name][-1] == Load("open", rate_per_s=120.0)
    assert [one.peer for one in visits] == ["bad", "good"]


def test_a_server_ends_with_all_that_it_started(tmp_path: Path) -> None:
    (tmp_path / "answer.json").write_text("{}")
    with process.running(
        [sys.executable, str(FAKE), str(*process.free_ports(1)), "child"], tmp_path, {}, list(os.sched_getaffinity(0))
    ) as server:
        while len(process.marked(server.mark)) < 2:
            server.check()
    assert process.marked(server.mark) == []


def test_an_address_of_one_family_in_the_words_of_the_other_is_the_same() -> None:
    assert [process._is_loopback(one) for one in ("127.0.0.1", "::1", "::ffff:127.0.0.1")] == [True] * 3
    assert [process._is_loopback(one) for one in ("0.0.0.0", "::", "::ffff:192.0.2.1")] == [False] * 3


def test_what_cannot_be_executed_is_said(tmp_path: Path) -> None:
    with pytest.raises(process.Failed, match="it cannot be started"), process.running(["/no/such"], tmp_path, {}, [0]):
        pass


def test_ctrl_c_leaves_nothing_behind_and_keeps_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    urls: list[str] = []

    def measure(url: str, body: bytes, load: Load, seconds: float, seed: int) -> Figure:
        urls.append(url)
        if len(set(urls)) == 2:
            raise KeyboardInterrupt
        return three_questions(url, body, load, seconds, seed)

    monkeypatch.setattr(table, "PEERS", (fake("right"),))
    monkeypatch.setattr(loads, "measure", lambda _generator: measure)
    monkeypatch.setattr(rounds, "choose_cores", lambda _given: (tuple(os.sched_getaffinity(0)), 0))
    given = ["peers", "--models", MODEL.name, "--rate", "10", "--cache", str(tmp_path), "--json"]
    assert main(given) == 130
    found = json.loads(capsys.readouterr().out)
    assert found["partial"]
    assert len(found["visits"]) == 1
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(*_address(urls[-1])).connect()


def test_the_whole_way_with_a_real_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = replace(fake("right", "gone"), needs=("no-such-program",))
    monkeypatch.setattr(table, "PEERS", (fake("right", "first"), fake("right", "second"), gone))
    monkeypatch.setattr(rounds, "choose_cores", lambda _given: (tuple(os.sched_getaffinity(0)), 0))
    output, page = tmp_path / "peers.json", tmp_path / "peers.md"
    given = [
        "peers",
        "--models",
        MODEL.name,
        "--rate",
        "1000",
        "--generator",
        "engine",
        "--seconds",
        "0.2",
        "--warmup",
        "0.1",
    ]
    status = main([*given, "--rounds", "1", "--cache", str(tmp_path), "--output", str(output), "--markdown", str(page)])
    assert status == 1  # one took no part
    found = json.loads(output.read_text())
    assert json.loads(capsys.readouterr().out) == found
    assert [one["missing"] for one in found["peers"][:2]] == [None, None]
    for visit in found["visits"]:
        assert visit["trouble"] is None
        assert visit["figures"]["many"]["requests"] > 0
        assert visit["figures"]["many"]["failures"] == 0
    assert "| Second |" in page.read_text()
    assert "Gone: was not measured: it needs no-such-program" in page.read_text()


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["peers", "tensorflow"]) == 2
    assert "unknown peer tensorflow: choose from slipway, litserve" in capsys.readouterr().err
    assert [one.name for one in command.chosen(["triton"])] == ["slipway", "triton"]


def round_result(peer: str, number: int, figure: Figure | None, trouble: str | None = None) -> RoundResult:
    return RoundResult(peer, "m", number, 1.0, {} if figure is None else {"many": figure}, trouble)


def test_ratios_are_of_the_same_round_and_above_one_where_the_first_is_better() -> None:
    visits = [round_result("a", at, replace(GOOD, rate_per_s=rate)) for at, rate in enumerate((300.0, 600.0, 900.0))]
    visits += [
        round_result("b", at, replace(GOOD, rate_per_s=rate, p99_ms=8.0))
        for at, rate in enumerate((100.0, 200.0, 300.0))
    ]
    found = figures.summarize(visits, "b", "a", "m", "many")
    assert found.rate_per_s == 200.0
    assert found.rate_ratio is not None
    assert found.rate_ratio.ratio == pytest.approx(3.0)
    assert found.rate_ratio.low == pytest.approx(3.0)
    assert found.p99_ratio is not None
    assert found.p99_ratio.ratio == pytest.approx(4.0)
    assert figures.summarize(visits, "a", "a", "m", "many").rate_ratio is None


def test_no_figure_is_drawn_from_what_must_not_be_believed() -> None:
    bad = replace(GOOD, problems=("the generator used 99% of its core",))
    visits = [round_result("a", 0, GOOD), round_result("a", 1, bad), round_result("a", 2, bad)]
    found = figures.summarize(visits, "a", "a", "m", "many")
    assert (found.rate_per_s, found.problem) == (None, "the generator used 99% of its core")
    assert figures.summarize(visits[:2], "a", "a", "m", "many").rate_per_s == GOOD.rate_per_s
    few = figures.summarize([round_result("a", 0, replace(GOOD, p99_ms=None))], "a", "a", "m", "many")
    assert (few.p50_ms, few.p99_ms) == (GOOD.p50_ms, None)
    died = figures.summarize([round_result("a", 0, None, "it ended with status 9")], "a", "a", "m", "many")
    assert died.problem == "it ended with status 9"


def test_wrk_is_held_to_failures_and_to_its_own_core() -> None:
    said = {"requests": 10_000, "us": 2_000_000, "failed": 0, "p50_us": 150, "p99_us": 900}
    assert loads.of_wrk(said, 0.3) == Figure(5000.0, 0.15, 0.9, 10_000, 0, 0.3)
    assert loads.of_wrk({**said, "failed": 11}, 0.3).problems == ("11 of 10,000 requests failed",)
    assert loads.of_wrk({**said, "failed": 10}, 0.3).problems == ()
    assert loads.of_wrk({**said, "requests": 472}, 0.3).p99_ms is None  # too few for a p99
    assert loads.of_wrk(said, 0.9).problems == ("the generator used 90% of its core, limit 80%",)
    assert loads.of_wrk({**said, "requests": 0}, 0.0).problems == ("there was no response",)


def test_what_others_used_of_a_core_is_a_reason(tmp_path: Path) -> None:
    stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 50 900 7 1 2 3 0 0\ncpu1 5 0 5 9 0 0 0 0 0 0\nintr 1\n"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(stat)
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    assert interference.busy_s([0], tmp_path) == pytest.approx(153 * tick_s)
    assert interference.busy_s([0, 1], tmp_path) == pytest.approx(163 * tick_s)
    before = interference.CpuTime(10.0, 3.0)
    assert list(interference.problems(before, interference.CpuTime(15.0, 7.9), 5.0, [0], "server")) == []
    (found,) = interference.problems(before, interference.CpuTime(15.0, 7.0), 5.0, [0], "server")
    assert found == "other programs used 20% of the server's core, limit 5%"


def test_an_interval_needs_three_rounds() -> None:
    assert show._times(figures.Ratio(3.0, 2.5, 3.5, 3), "x") == "3x [2.5, 3.5]"
    assert show._times(figures.Ratio(3.0, 0.1, 99.0, 2), "x") == "3x"
