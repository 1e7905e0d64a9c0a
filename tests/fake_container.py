"""A container that behaves as its one argument says: what the platform has to cope with, without a model."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BEHAVIOUR = sys.argv[1]
PIECES = [b"one\n", b"two\n", b"three\n"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/ping" and BEHAVIOUR == "unhealthy":
            self._answer(503, b"loading")
        elif self.path == "/ping" and BEHAVIOUR == "moody":
            self._answer(next(moods), b"")
        elif self.path == "/execution-parameters":
            self._answer(404, b"")
        else:
            self._answer(200, b"{}")

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/models":
            self._load(json.loads(body)["model_name"])
        elif BEHAVIOUR == "silent":
            self.rfile.read(1)  # until the caller leaves
        elif BEHAVIOUR in ("breaks", "streams", "trickles"):
            self._stream()
        elif BEHAVIOUR == "dies":
            os._exit(3)
        elif BEHAVIOUR == "flaky":
            self.server.attempts = getattr(self.server, "attempts", 0) + 1  # type: ignore[attr-defined]
            self._answer(200 if self.server.attempts % 3 == 0 else 503, body)  # type: ignore[attr-defined]
        else:
            self._echo(body)

    def do_DELETE(self) -> None:
        loaded.remove(self.path.rsplit("/", 1)[1])
        self._answer(200, b"{}")

    def _load(self, name: str) -> None:
        if BEHAVIOUR == "loading":
            self.rfile.read(1)
        elif len(loaded) == 2:
            self._answer(507, b"no memory")
        else:
            loaded.append(name)
            self._answer(200, b"{}")

    def _echo(self, body: bytes) -> None:
        seen = {name.lower(): value for name, value in self.headers.items()}
        said = {"path": self.path, "headers": seen, "body": body.decode(), "loaded": loaded}
        extra = {
            "Content-Type": "application/x-echo; v=1",
            "X-Amzn-SageMaker-Custom-Attributes": "back",
            "X-Amzn-SageMaker-New-Session-Id": "s-1; Expires=2030-01-01T00:00:00Z",
            "Server-Timing": "hidden",
        }
        if BEHAVIOUR == "boasts":
            extra["X-Amzn-SageMaker-Custom-Attributes"] = "x" * 1_025
        self._answer(200, json.dumps(said).encode(), extra)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in PIECES:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if BEHAVIOUR == "trickles":
            self.rfile.read(1)
        if BEHAVIOUR == "streams":
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


loaded: list[str] = []
moods = itertools.chain([200, 503, 503], itertools.repeat(200))

if __name__ == "__main__":
    if BEHAVIOUR == "broken":
        sys.exit("cannot serve: the model is a teapot")
    signal.signal(signal.SIGTERM, signal.SIG_IGN if BEHAVIOUR == "stubborn" else lambda *_: os._exit(0))
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
