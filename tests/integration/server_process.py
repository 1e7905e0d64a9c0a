"""A real server in a real process: started, asked over real sockets, read, signalled, and always ended."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0
"""How long anything may take before a test gives up; nothing that works comes near it."""

T = TypeVar("T")
JSON = {"Content-Type": "application/json"}


def eventually(look: Callable[[], T | None], what: str, patience_s: float = PATIENCE_S, every_s: float = 0.005) -> T:
    """Poll until ``look`` gives something true. Bounded."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(every_s)
    raise AssertionError(f"never came true: {what}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The stable code of an error."""
        return str(self.json()["code"])


class ServerProcess:
    """One ``python serve.py``."""

    def __init__(self, arguments: list[str], environ: Mapping[str, str], log_path: Path) -> None:
        self._log_path = log_path
        self._clients: list[socket.socket] = []
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "SAGEMAKER_"))}
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "serve.py", *arguments],
                cwd=ROOT,
                env={**clean, **environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.port = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """All that the server has written to stderr."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def listen(self) -> ServerProcess:
        """Wait until it says where it listens."""

        def found() -> re.Match[str] | None:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            return re.search(r"listening on https?://\S+:(\d+)", self.log())

        self.port = int(eventually(found, "the server listens")[1])
        return self

    def ready(self) -> ServerProcess:
        """Wait until /ping says 200."""
        self.listen()

        def healthy() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            return self.get("/ping").status == 200

        eventually(healthy, "/ping says 200")
        return self

    def exit_code(self) -> int:
        """Wait for the end."""
        return self.process.wait(PATIENCE_S)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.exit_code()

    def end(self) -> None:
        """The last resort of every test."""
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on its own connection."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            client.request(method, path, body, headers or {})
            response = client.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            client.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, None, headers)

    def post(self, path: str, body: bytes | Any, headers: Mapping[str, str] | None = None) -> Answer:
        """``body`` as bytes, or anything else as JSON, with its Content-Type."""
        if isinstance(body, bytes):
            return self.request("POST", path, body, headers)
        return self.request("POST", path, json.dumps(body).encode(), {**JSON, **(headers or {})})

    def put(self, path: str, body: Any) -> Answer:
        """``body`` as JSON."""
        return self.request("PUT", path, json.dumps(body).encode(), JSON)

    def connect(self) -> socket.socket:
        """A connection of its own; closed at the end if the test does not do it."""
        client = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients.append(client)
        return client

    def samples(self) -> dict[str, float]:
        """What /metrics says: ``name{label=value,...}`` to number, only labels that tell series apart."""
        text = self.get("/metrics").body.decode()
        values = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(
                    f"{key}={value}" for key, value in sorted(sample.labels.items()) if key not in ("model", "version")
                )
                values[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return values

    def rss_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextmanager
def server_process(
    directory: Path, model: Path | None, *arguments: str, environ: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """A server on a free port; ended at the end, whatever happened. Not waited for: call ``ready`` or ``listen``."""
    directory.mkdir(parents=True, exist_ok=True)
    given = ["--port", "0", *(["--model", str(model)] if model is not None else []), *arguments]
    process = ServerProcess(given, environ or {}, directory / "stderr.log")
    try:
        yield process
    finally:
        process.end()


def post_bytes(body: bytes, path: str = "/invocations", headers: str = "Content-Type: application/json\r\n") -> bytes:
    """A request as it goes over the wire."""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def instances(*rows: list[float]) -> bytes:
    """A JSON body of rows."""
    return json.dumps({"instances": rows}).encode()


def read_answers(client: socket.socket, count: int) -> list[Answer]:
    """The next ``count`` answers of a connection, each framed by its own head."""
    stream = client.makefile("rb")
    return [_read_answer(stream) for _ in range(count)]


def _read_answer(stream: Any) -> Answer:
    status_line = stream.readline()
    if not status_line:
        raise ConnectionError("the server closed the connection")
    headers = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return Answer(int(status_line.split()[1]), headers, stream.read(int(headers.get("content-length", "0"))))


def read_to_end(client: socket.socket) -> bytes:
    """All bytes until the server closes."""
    received = b""
    while chunk := client.recv(65_536):
        received += chunk
    return received


def reset(client: socket.socket) -> None:
    """Leave rudely: the server sees a connection reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
