"""A model server of the simplest kind, in the ways that a peer can behave: ``fake_peer.py PORT MODE``.

It answers with what ``answer.json`` in its folder holds. Modes: ``right``; ``wrong``; ``never``: ends at once;
``dies:N``: ends at its N-th question; ``public``: listens on all interfaces; ``child``: starts a process
that hides in a session of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, MODE = int(sys.argv[1]), sys.argv[2]
ANSWER = b'{"output": [1, 2]}' if MODE == "wrong" else Path("answer.json").read_bytes()
asked = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"ready")

    def do_POST(self) -> None:
        global asked
        asked += 1
        if MODE.startswith("dies:") and asked >= int(MODE.partition(":")[2]):
            print("out of memory", flush=True)  # noqa: T201  # its log
            os._exit(9)
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(ANSWER)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        pass

    def _answer(self, body: bytes) -> None:
        # One write: two would meet the delayed acknowledgement of the second.
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)


if MODE == "never":
    sys.exit("no licence found")
if MODE == "child":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
ThreadingHTTPServer.request_queue_size = 128  # five, the default, are fewer than the connections of a load
ThreadingHTTPServer(("0.0.0.0" if MODE == "public" else "127.0.0.1", PORT), Handler).serve_forever()
