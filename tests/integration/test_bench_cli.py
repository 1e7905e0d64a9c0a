"""The command line as a user meets it: real processes, a real socket, a server that speaks the real headers."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.errors import Unusable
from bench.experiments.run import execute as real_execute
from bench.load import probe, target
from bench.load.child_server import child_server
from bench.observe import scrape
from bench.report import terminal
from bench.result import record
from tests.unit.bench import on_time

ROOT = Path(__file__).resolve().parents[2]
PLANTED = ["tests.unit.bench.planted_server"]
STUB = ["-m", "tests.unit.bench.stub_server"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with child_server("tests.unit.bench.stub_server") as url:
        yield url


@pytest.fixture
def body(tmp_path: Path) -> str:
    path = tmp_path / "body.json"
    path.write_text("[1, 2, 3]")
    return str(path)


@pytest.fixture
def no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads of commands in this process are not late, and every response takes ``on_time.LATENCY_MS``."""
    monkeypatch.setattr("bench.experiments.run.load", on_time.load)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """A short run in this process, and its result from standard output."""
    short = ["--rate", "200", "--duration", "0.8", "--warmup", "0.1", "--skip-calibration"]
    extra = [] if "--users" not in arguments else short[2:]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["run", *arguments, *(extra or short)])
    return status, json.loads(out.getvalue()), err.getvalue()


def test_a_run_is_measured_explained_and_written(server: str, body: str, tmp_path: Path) -> None:
    output = tmp_path / "run.json"
    status, found, errors = run(server, "--payload", body, "--output", str(output))
    # Whether a shared machine kept the schedule is not this test's business; that status and verdict agree is.
    assert status == (0 if found["validity"]["ok"] else 1), errors
    assert found["target"]["url"] == f"{server}/invocations"
    assert found["stages"]["server"]
    assert found["stages"]["bands"]["mean"]["terms_ms"]["compute"] == pytest.approx(0.010)
    assert found["stages"]["bands"]["mean"]["terms_ms"]["queue_timer"] == pytest.approx(0.002)
    assert found["batches"] == {"8": found["window"]["requests"]}
    assert found["server"]["stage_means_ms"]["send"] == pytest.approx(2.0)
    written, columns = record.read(output)
    assert json.loads(replace(written, raw=None).to_json()) == {**found, "raw": None}
    assert (columns["compute_ns"] == 10_000).all()
    assert found["host"]["pid"]
    assert found["host"]["series"]["ping_ms"]
    assert found["explanation"]["bands"]["p50"]["terms_ms"]["compute"] == pytest.approx(0.010)
    shown = output.with_suffix(".html").read_text()
    assert "Server and machine" in shown
    again = tmp_path / "again.html"
    assert bench("report", str(output), "--output", str(again)).returncode == 0
    assert again.read_text() == shown


def test_what_a_run_is_held_to_is_told_to_ci(server: str, body: str, tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    run(f"{server}/overloaded", "--payload", body, "--max-errors", "1", "--objective", "p50:1s", "--junit", str(path))
    names = [case.get("name") for case in ET.parse(path).iter("testcase") if case.find("failure") is not None]
    assert "at most 1 % of requests fail" in names
    assert main(["run", server, "--payload", body, "--rate", "1", "--junit", "no/such/j.xml"]) == 2


def test_a_sagemaker_endpoint_is_not_looked_at_beside_the_load(
    server: str, body: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of nobody")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("bench.experiments.run.scrape.scraping", pytest.fail)
    monkeypatch.setattr("bench.experiments.run.probe.stage_totals", pytest.fail)
    place = ["sagemaker:mine", "--region", "eu-west-1", "--endpoint-url", server, "--payload", body]
    main(["run", *place, "--rate", "50", "--duration", "0.5", "--warmup", "0", "--skip-calibration", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["target"]["url"].endswith("/endpoints/mine/invocations")
    assert found["stages"]["server"]
    assert found["host"] is None


def test_the_sagemaker_carrier_brings_the_same(server: str, body: str) -> None:
    _, found, _ = run(server, "--payload", body, "--carrier", "custom-attributes")
    assert found["stages"]["bands"]["mean"]["terms_ms"]["compute"] == pytest.approx(0.010)


def test_without_a_carrier_nothing_is_made_up(server: str, body: str) -> None:
    _, found, _ = run(server, "--payload", body, "--carrier", "none", "--users", "2")
    assert not found["stages"]["server"]
    assert found["load"]["mode"] == "closed"
    assert found["throughput"]["offered_per_s"] is None
    assert found["validity"]["schedule_kept"] is None


def test_errors_are_shown_in_the_servers_own_words(server: str, body: str) -> None:
    status, found, errors = run(f"{server}/overloaded", "--payload", body, "--max-errors", "1")
    assert status == 1
    assert found["errors"][0] | {"count": 0} == {
        "kind": "429",
        "count": 0,
        "share": 1.0,
        "first_index": 0,
        "code": "overloaded",
        "message": "the queue is full: try again later",
    }
    assert "100.00 % of requests failed, limit 1 %" in errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "http://127.0.0.1:1", "--payload", "{body}", "--rate", "1"], "cannot reach http://127.0.0.1:1"),
        (["127.0.0.1:1"], "cannot reach http://127.0.0.1:1"),
        (["replay", "missing.trace", "{url}"], "cannot read the trace"),
        (["run", "ftp://h", "--payload", "{body}", "--rate", "1"], "scheme"),
        (["run", "{url}", "--payload", "missing.json", "--rate", "1"], "cannot read the payload"),
        (["run", "{url}", "--payload", "{body}", "--users", "9", "--connections", "8"], "raise --connections"),
        (["run", "{url}", "--payload", "{body}", "--rate", "1", "--output", "no/such/r.json"], "no directory"),
        (["run", "{url}", "--payload", "{body}", "--rate", "1", "--output", "r.npz"], "FILE.json"),
        (["run", "{url}", "--payload", "{body}", "--rate", "1", "--output", "r.html"], "FILE.json"),
        (["report", "missing.json"], "cannot read the result"),
        (["run", "{url}", "--payload", "{body}", "--rate", "1e9"], "shorten the run"),
        (["run", "{url}", "--payload", "{body}", "--arrivals", "poisson"], "give --rate"),
        (["run", "{url}", "--payload", "{body}", "--arrivals", "sometimes"], "gamma:CV"),
        (["run", "{url}", "--payload", "{body}", "--users", "1", "--arrivals", "poisson"], "open loop"),
        (["run", "{url}", "--payload", "{body}", "--rate", "1", "--objective", "p99"], "p99:50ms"),
        (["run", "{url}", "--rate", "1"], "pass --payload FILE"),
        (["{url}", "--template", "missing"], "cannot read the template"),
        (["slo", "{url}", "--payload", "{body}", "--p99", "soon"], "50ms"),
        (["sweep", "{url}", "--payload", "{body}", "--rates", "5..x"], "50..800x5"),
        (["compare", "{url}", "a.json"], "pass two URLs or two results"),
        (["compare", "a.json", "b.json", "--gate", "5"], "p99:+5%"),
        (["plan", "--peak", "1", "--price", "1", "--slo", "missing"], "missing"),
        (["record", "missing.log", "--output", "t.trace"], "cannot read the log"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_2(
    server: str, body: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([one.format(url=server, body=body) for one in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "h", "--payload", "p", "--rate", "0"],
        ["fly"],
        [],
    ],
)
def test_wrong_arguments_are_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_the_command_line_stays_free_of_gevent() -> None:
    """Importing locust patches sockets and threads of the whole process. Of the server only its system is imported,
    and the queue that a forecast runs."""
    code = (
        "import sys, bench.__main__; own = ('system', 'scheduling', 'errors', 'tensors', 'request'); "
        "print([name for name in sys.modules if name.split('.')[0] in ('gevent', 'locust', 'server', 'pydantic') "
        "and name != 'server' and name.split('.')[1:2] not in [[one] for one in own]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_names_every_command_and_shows_examples() -> None:
    shown = bench("--help").stdout
    for one in ("run", "report", "sweep", "slo", "compare", "plan", "calibrate", "record", "replay", "locustfile"):
        assert f"    {one}" in shown, one
    assert "examples:" in bench("run", "--help").stdout


@pytest.mark.slow
def test_an_interrupt_leaves_a_partial_result(body: str) -> None:
    """The server interrupts its own load after 20 requests, so that nothing here has to wait for the right moment."""
    script = (
        "import asyncio, os, signal, sys\n"
        "from tests.unit.bench.stub_server import serving, http\n"
        "async def main():\n"
        "    def answer(n):\n"
        "        if n == 30: load.send_signal(signal.SIGINT)\n"
        "        return http()\n"
        "    async with serving(answer) as (stub, url):\n"
        "        load = await asyncio.create_subprocess_exec(sys.executable, '-m', 'bench', 'run', url, '--payload',\n"
        "            sys.argv[1], '--rate', '200', '--duration', '30', '--warmup', '0', '--skip-calibration')\n"
        "        return await load.wait()\n"
        "sys.exit(asyncio.run(main()))\n"
    )
    command = [sys.executable, "-c", script, body]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130, done.stderr
    found = json.loads(done.stdout)
    assert found["partial"]
    assert 10 <= found["window"]["requests"] < 6_000
    assert "partial" in done.stderr


@pytest.mark.slow
def test_calibration_reports_a_floor_and_a_ceiling() -> None:
    done = bench("calibrate", "--seconds", "0.5")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["floor", "ceiling", "usable"]


@pytest.mark.slow
def test_a_rate_beyond_the_generator_is_refused(server: str, body: str) -> None:
    done = bench("run", server, "--payload", body, "--rate", "1000000", "--duration", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "lower --rate to" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pseudo-terminal that ends like Linux's")
def test_a_terminal_gets_the_card_and_a_progress_line(server: str, body: str) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "bench", "run", server, "--payload", body, "--rate", "100", "--duration", "0.6"]
    with subprocess.Popen([*command, "--warmup", "0", "--skip-calibration"], cwd=ROOT, stdout=theirs, stderr=theirs):
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how the end of a terminal reads
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    text = shown.decode()
    assert "of 0.6 s" in text
    assert "open loop, poisson arrivals" in text
    assert "Again" in text
    assert "schema" not in text


@pytest.mark.usefixtures("no_lag")
def test_a_pipe_gets_the_result_card_on_request(server: str, body: str, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--rate", "100", "--duration", "1", "--warmup", "0", "--skip-calibration", "--no-burst"]
    assert main(["run", server, "--payload", body, *short, "--card"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "open loop, poisson arrivals" in out
    assert "valid" in out.splitlines()[0]
    assert '"schema"' not in out
    assert {len(line) for line in out.splitlines()} == {terminal.PIPE_WIDTH}  # wide enough for the card


@pytest.mark.usefixtures("no_lag")
def test_a_sweep_measures_each_rate(server: str, body: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--payload", body, "--duration", "2", "--warmup", "0", "--skip-calibration", "--json"]
    junit = tmp_path / "sweep.xml"
    assert main(["sweep", server, "--rates", "50,100", "--junit", str(junit), *short]) == 0
    (suite,) = ET.parse(junit).getroot()
    assert suite.attrib["name"] == f"bench sweep {server}/invocations"
    assert not list(suite.iter("failure"))
    rungs = json.loads(capsys.readouterr().out)["rungs"]
    assert [one["rate_per_s"] for one in rungs] == [50, 100]
    assert [one["latency"]["p50"]["value_ms"] for one in rungs] == [on_time.LATENCY_MS] * 2


@pytest.mark.slow
def test_a_record_and_a_replay(server: str, body: str, tmp_path: Path) -> None:
    log, trace = tmp_path / "access.log", tmp_path / "t.trace"
    log.write_text("".join(f'{{"ts": {number / 50}}}\n' for number in range(40)))
    recorded = bench("record", str(log), "--output", str(trace))
    assert recorded.returncode == 0
    assert "40 requests in 0.8 s" in recorded.stderr
    output = tmp_path / "run.json"
    replayed = bench("replay", str(trace), server, "--payload", body, "--skip-calibration", "--output", str(output))
    found = json.loads(replayed.stdout)
    assert found["window"]["requests"] == 40
    assert found["load"]["rate_per_s"] == pytest.approx(50)


@pytest.mark.slow
def test_several_processes_send_one_schedule(server: str, body: str) -> None:
    _, found, errors = run(server, "--payload", f"{body}:2", body, "--processes", "2", "--repeat", "2")
    assert [one["seed"] for one in found["window"]["repeats"]] == [1, 2], errors
    assert found["load"]["processes"] == 2
    assert [one["weight"] for one in found["load"]["payloads"]] == [2, 1]
    assert 300 <= found["window"]["requests"] <= 500


def test_two_results_are_compared(
    tmp_path: Path, server: str, body: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    monkeypatch.setattr("bench.experiments.run.load", on_time.load)
    short = ["--rate", "200", "--duration", "2", "--warmup", "0", "--skip-calibration", "--no-burst", "--json"]
    for path, latency_ms in zip(paths, (20.0, 25.0), strict=True):
        monkeypatch.setattr(on_time, "LATENCY_MS", latency_ms)
        assert main(["run", server, "--payload", body, *short, "--output", str(path)]) == 0
    capsys.readouterr()
    gates = {("p50:+30%", *paths): 0, ("p50:+20%", *paths): 1, ("p50:+5%", *reversed(paths)): 0}
    for (gate, *both), status in gates.items():
        assert main(["compare", *map(str, both), "--percentile", "p50", "--gate", str(gate), "--json"]) == status, gate
        found = json.loads(capsys.readouterr().out)
        assert found["ratio"] == pytest.approx(1.25 if both == paths else 0.8)
        assert found["low"] <= found["ratio"] <= found["high"]


@pytest.mark.slow
@pytest.mark.alone
def test_two_servers_are_compared_in_turn_and_the_gate_decides(body: str, tmp_path: Path) -> None:
    """Planted waits of 120 and of 180 ms: B takes half as long again."""
    load = ["--payload", body, "--rate", "60", "--duration", "1", "--warmup", "0.1", "--pairs", "3"]
    junit = tmp_path / "junit.xml"
    with child_server(*PLANTED, "1") as fast, child_server(*PLANTED, "1.5") as slow:
        gated = bench("compare", fast, slow, *load, "--gate", "p50:+5%", "--junit", str(junit))
        assert gated.stdout, gated.stderr
        found = json.loads(gated.stdout)
        assert found["ratio"] == pytest.approx(1.5, rel=0.05), found
        assert found["verdict"] == "B is slower, by more than 2%"
        assert (len(found["pairs"]), found["method"], found["partial"]) == (3, "interleaved pairs", False)
        assert gated.returncode == 1
        assert "gate p50:+5% failed" in gated.stderr
        assert [line.split()[5] for line in gated.stderr.splitlines()[:3]] == ["A", "B", "A"]  # who went first
        assert [case.get("name") for case in ET.parse(junit).iter("testcase") if case.find("failure") is not None]


def test_an_interrupted_comparison_keeps_the_pairs_until_then(
    body: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = iter([10.0, 12.0, None, 10.5, 12.5, 10.5, 11.0])  # of the second pair one side is not known

    def block(*_: object) -> float | None:
        try:
            return next(blocks)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("bench.commands.compare._block_ms", block)
    assert main(["compare", "127.0.0.1:1", "127.0.0.1:2", "--payload", body, "--rate", "1", "--json"]) == 130
    out, err = capsys.readouterr()
    assert (len(json.loads(out)["pairs"]), json.loads(out)["partial"]) == (2, True)
    assert "interrupted" in err
    assert main(["compare", "127.0.0.1:1", "127.0.0.1:2", "--payload", body, "--rate", "1"]) == 130
    assert "before the first result" in capsys.readouterr().err


@pytest.mark.usefixtures("no_lag")
def test_a_search_asks_the_server_nothing_but_its_load(server: str, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("scrape.scraping", "probe.stage_totals", "probe.metadata"):
        monkeypatch.setattr(f"bench.experiments.run.{name}", pytest.fail)
    short = ["--payload", body, "--duration", "2", "--warmup", "0", "--skip-calibration", "--json"]
    assert main(["sweep", server, "--rates", "50", *short]) == 0


@pytest.mark.usefixtures("no_lag")
@pytest.mark.parametrize(("why", "status"), [(KeyboardInterrupt(), 130), (Unusable("cannot reach it"), 1)])
@pytest.mark.parametrize(
    "arguments", [["sweep", "{url}", "--rates", "20,40,60"], ["slo", "{url}", "--p50", "1s"], ["{url}"]]
)
def test_what_was_measured_before_the_end_is_kept(
    server: str,
    body: str,
    arguments: list[str],
    why: BaseException,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Ctrl-C, or a server that went, after two loads."""
    loads = itertools.count()

    def execute(*given: Any) -> Any:
        if next(loads) == 2:
            raise why
        return real_execute(*given)

    monkeypatch.setattr("bench.experiments.sweep.execute", execute)
    monkeypatch.setattr("bench.commands.first.RUNG_S", 2.0)
    short = ["--payload", body, "--duration", "2", "--warmup", "0", "--skip-calibration", "--json"]
    junit = tmp_path / "found.xml"
    if arguments[0] in ("sweep", "slo"):
        short += ["--junit", str(junit)]
    assert main([*(one.format(url=server) for one in arguments), *short]) == status
    if "--junit" in short:
        told = [one.attrib["message"] for one in ET.parse(junit).getroot().iter("failure")]
        assert told == [str(why) or "interrupted"]
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert len(found.get("rungs") or found.get("trials") or found["sweep"]["rungs"]) == 2
    assert "partial" in err


def test_the_first_look_is_over_when_a_load_begins(server: str) -> None:
    with scrape.scraping(target.parse(server)) as seen:
        begun_ns = time.perf_counter_ns()
    assert seen.looks[0]["t_ns"] < begun_ns < seen.looks[-1]["t_ns"]


def test_a_plan_writes_the_policy(tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    done = bench("plan", "--capacity", "400", "--peak", "3000", "--price", "0.408", "--policy", str(policy))
    assert done.returncode == 0, done.stderr
    assert json.loads(policy.read_text())["TargetValue"] == json.loads(done.stdout)["target_per_instance"]


def test_the_probe_survives_a_server_without_answers(server: str) -> None:
    place = target.parse(f"{server}/v2/models/m/infer")
    assert probe.metadata(place) == {"name": "m", "versions": ["1"]}
    assert probe.stage_totals(target.parse("http://127.0.0.1:1")) == {}


def test_a_locust_file_runs_headless_and_is_never_ahead_of_its_schedule(server: str, body: str, tmp_path: Path) -> None:
    file = tmp_path / "generated.py"
    written = bench(
        "locustfile", server, "--payload", body, "--rate", "50", "--arrivals", "constant", "--output", str(file)
    )
    assert written.returncode == 0, written.stderr
    assert bench("locustfile", server, "--payload", body, "--output", str(file)).returncode == 2  # never overwritten
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(file),
        "--headless",
        "-u",
        "1",
        "-t",
        "2s",
        "--json",
        "--only-summary",
    ]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    (stats,) = json.loads(done.stdout)
    # How many a busy machine gets to in two seconds is not this test's business; that none was sent early is.
    # Locust's own start is the first answer, which came after its intended instant by its response time.
    lasted_s = stats["last_request_timestamp"] - stats["start_time"] + stats["max_response_time"] / 1e3
    assert 1 <= stats["num_requests"] <= 50 * lasted_s + 1
    assert stats["num_failures"] == 0
    # Full precision: locust's own rounding leaves whole milliseconds only.
    assert any(float(key) != int(float(key)) for key in stats["response_times"])
