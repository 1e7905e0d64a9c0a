"""Copies of a server: started with its command on another port, and ended with their block."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.errors import Unusable
from bench.experiments import copies
from bench.load import target

PROGRAM = """
import argparse, http.server, sys
parser = argparse.ArgumentParser()
for name in ("--host", "--port", "--threads", "--grpc-port", "--tls-cert", "--tls-key", "--capture-to"):
    parser.add_argument(name)
asked = parser.parse_args()
if asked.threads == "0":
    sys.exit("no threads")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        private = asked.grpc_port == "-1" and asked.tls_cert == asked.capture_to == ""
        body = (asked.threads or "as usual" if asked.host is None or private else "shares something").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass

server = http.server.HTTPServer(("127.0.0.1", int(asked.port)), Handler)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """The process and the port of a small program with the name of ours."""
    (tmp_path / copies.PROGRAM).write_text(PROGRAM)
    command = [sys.executable, copies.PROGRAM, "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r":(\d+)$", process.stdout.readline().strip())
        assert found is not None
        yield process.pid, int(found[1])
        process.kill()


def text_of(place: target.Target) -> str:
    import urllib.request

    with urllib.request.urlopen(f"{place.root}/", timeout=10) as answer:
        return str(answer.read().decode())


def test_a_copy_has_the_command_of_the_server_and_further_flags(server: tuple[int, int]) -> None:
    pid, port = server
    place = target.parse(f"http://127.0.0.1:{port}/predict")
    assert copies.can_copy([pid])
    with copies.copied(place, [pid], ["--threads", "3"]) as other:
        assert (other.path, other.port != port) == (place.path, True)
        assert text_of(other) == "3"
        assert text_of(place) == "as usual"
        children = [one.pid for one in psutil.Process().children()]
    assert set(children) - {one.pid for one in psutil.Process().children()}, "the copy has ended"


COPIES = """
import sys
from bench.experiments import copies
from bench.load import target
with copies.copied(target.parse("http://127.0.0.1:1/"), [int(sys.argv[1])], ()):
    print("started", flush=True)
    input()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_copy_ends_with_the_process_that_started_it_whatever_ends_that(server: tuple[int, int], number: int) -> None:
    command = [sys.executable, "-c", COPIES, str(server[0])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        (copy,) = psutil.Process(process.pid).children()
        process.send_signal(number)
    copy.wait(20)


def test_a_copy_that_does_not_start_says_why(server: tuple[int, int]) -> None:
    pid, port = server
    place = target.parse(f"http://127.0.0.1:{port}/")
    with pytest.raises(Unusable, match="its last line: no threads"), copies.copied(place, [pid], ["--threads", "0"]):
        pass


@pytest.mark.parametrize("pids", [[], [os.getpid()], [-1]])
def test_another_program_is_not_started_again(pids: list[int]) -> None:
    assert not copies.can_copy(pids)
