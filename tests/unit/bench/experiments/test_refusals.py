"""What explain, whatif, advise and verify refuse: the exit status, one sentence, and no load on the server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.experiments.slowdown import can_slow
from bench.explain.verdict import LIKELY, Cause, Gain, Verdict
from bench.load import target
from bench.result import record
from bench.result.record import PayloadRecord

pytestmark = pytest.mark.usefixtures("quick")
Capture = pytest.CaptureFixture[str]
ON_RECORDS = (
    ("explain", "{file}"),
    ("explain", "{file}", "--confirm"),
    ("whatif", "{file}", "--rate", "x1.1"),
    ("advise", "{file}"),
    ("verify", "{file}", "--rate", "x1.1"),
    ("whatif", "{run}", "--rate", "x1.1", "--also", "{file}"),
    ("advise", "{run}", "--also", "{file}"),
    ("verify", "{run}", "--rate", "x1.1", "--also", "{file}"),
)


def refused(words: str, capsys: Capture, *arguments: str) -> None:
    """The command exits with 2 and says ``words`` in one line."""
    assert main([*arguments, *(["--json"] if "--json" not in arguments else [])]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert words in err


@pytest.mark.parametrize("arguments", ON_RECORDS, ids=" ".join)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot read the result '{file}': No such file or directory"),
        ("", "cannot read the result"),
        ("[1]", "measure again"),
        ('{{"schema": "slipway.bench.run/1"}}', "its schema is not slipway.bench.run/2; measure again"),
        ('{{"schema": "slipway.bench.run/2"}}', "cannot read the result"),
    ],
)
def test_a_file_that_is_no_record_of_this_version(
    run_file: Path, tmp_path: Path, arguments: tuple[str, ...], text: str | None, words: str, capsys: Capture
) -> None:
    file = tmp_path / "other.json"
    if text is not None:
        file.write_text(text.format())
    refused(words.format(file=file), capsys, *(one.format(file=file, run=run_file) for one in arguments))


@pytest.mark.parametrize("command", ["whatif", "verify"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("instanzes=2", "the nearest is instances"),
        ("colour=2", "there are instances, threads"),
        ("instances", "--set instances=2"),
        ("instances=two", "--set instances=2"),
        ("instances=0", "--set instances=2"),
        ("max_queue_ms=nan", "--set max_queue_ms=2"),
        ("max_queue_ms=inf", "--set max_queue_ms=2"),
    ],
)
def test_a_setting_that_does_not_exist(run_file: Path, command: str, change: str, words: str, capsys: Capture) -> None:
    refused(words, capsys, command, str(run_file), "--set", change)


@pytest.mark.parametrize("command", ["whatif", "advise", "verify"])
def test_a_result_never_replaces_its_record(run_file: Path, command: str, capsys: Capture) -> None:
    before = run_file.read_bytes()
    change = () if command == "advise" else ("--rate", "x1.1")
    refused("would overwrite the record", capsys, command, str(run_file), *change, "--output", str(run_file))
    assert run_file.read_bytes() == before


def at(run_file: Path, folder: Path, url: str) -> Path:
    """The record as if it had been measured at ``url``, with a body that is still there."""
    body = folder / "body.json"
    body.write_text("{}")
    found, rows = record.read(run_file)
    command = f"python -m bench run {url}/v2/models/m/infer --rate 250 --payload {body}"
    payload = PayloadRecord("body.json", "application/json", sha256(b"{}").hexdigest(), 2)
    path = folder / "there.json"
    verdict = Verdict((Cause("batch_timer", LIKELY, ("because",), "do", Gain(1.0, 2.0), "prove"),))
    load = replace(found.load, payload=payload)
    record.write(path, replace(found, command=command, load=load, verdict=verdict), rows)
    return path


@contextmanager
def answering(answer: Callable[[str], tuple[int, bytes]]) -> Iterator[tuple[str, list[str]]]:
    """A server that answers ``answer(path)`` to every method: its URL, and the requests that came."""
    came: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65_537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            came.append(f"{self.command} {self.path}")
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", came
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "arguments", [("explain", "--confirm"), ("verify", "--rate", "x1.1"), ("verify", "--extra-us", "500")]
)
def test_a_server_that_is_not_there(
    run_file: Path, tmp_path: Path, arguments: tuple[str, ...], capsys: Capture
) -> None:
    path = at(run_file, tmp_path, "http://127.0.0.1:1")
    before = path.read_bytes()
    refused("cannot reach http://127.0.0.1:1", capsys, arguments[0], str(path), *arguments[1:])
    assert path.read_bytes() == before


FOREIGN = {
    "another server": (lambda path: (404, b"<html>\n<p>not\nfound"), "404"),
    "a page for every path": (lambda path: (200, b"<html>\nsign in\n</html>"), "Is it Slipway?"),
    "JSON for every path": (lambda path: (200, json.dumps({"status": "ok"}).encode()), "Is it Slipway?"),
    "Slipway as it starts": (lambda path: (403, b'{"error": "start it with --slowdowns"}'), "--slowdowns"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("change", [("--extra-us", "500"), ("--set", "max_queue_delay_us=0")])
def test_a_server_that_slows_no_stage_down(
    run_file: Path, tmp_path: Path, name: str, change: tuple[str, str], capsys: Capture
) -> None:
    """It is asked before the first block: nothing is loaded in vain, and no effect is measured of no change."""
    answer, words = FOREIGN[name]
    with answering(answer) as (url, came):
        path = at(run_file, tmp_path, url)
        refused(words, capsys, "verify", str(path), *change)
        assert came == ["GET /admin/slowdown"]
        assert not can_slow(target.parse(url))
