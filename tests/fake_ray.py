"""A stand-in for the dashboard of a Ray cluster: the part of its REST interface that container.deploy calls.

It keeps the applications that were put, as Serve does: a new or changed one deploys at first, and runs or fails when it
is looked at again. What Serve does with replicas, only a real cluster shows (tests/ray).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATH = "/api/serve/applications/"
ANSWER = b'{"predictions": [[2, 4, 6, 8]]}'


class FakeRay:
    """``fails``: models whose replicas cannot start. ``changes``: the calls that changed something, in their order."""

    def __init__(self) -> None:
        self.applications: dict[str, dict[str, Any]] = {}
        self.running = False
        self.http: dict[str, Any] = {}
        self.fails: set[str] = set()
        self.changes: list[str] = []
        self.invoked: list[str] = []
        self.url = ""

    def add(self, name: str, import_path: str, route: str) -> None:
        """An application that somebody else deployed."""
        config = {"name": name, "import_path": import_path, "route_prefix": route, "deployments": [{"name": "Other"}]}
        self._keep(config)
        self.applications[name]["status"] = "RUNNING"
        self.running, self.http = True, {"host": "127.0.0.1", "port": 8000}

    def look(self) -> dict[str, Any]:
        """The answer to GET."""
        if not self.running:
            return {"applications": {}, "controller_info": {"actor_id": None}}
        said = json.loads(json.dumps(self.applications))
        for one in self.applications.values():
            if one["status"] == "DEPLOYING":
                self._settle(one)
        return {
            "applications": said,
            "controller_info": {"actor_id": "1"},
            "http_options": self.http,
            "proxy_location": "EveryNode",
        }

    def put(self, config: dict[str, Any]) -> None:
        self.changes.append("PUT")
        if not self.running:
            self.running, self.http = True, config["http_options"]
        names = [one["name"] for one in config["applications"]]
        self.applications = {name: one for name, one in self.applications.items() if name in names}
        for one in config["applications"]:
            if self.applications.get(one["name"], {}).get("deployed_app_config") != one:
                self._keep(one)

    def delete(self) -> None:
        self.changes.append("DELETE")
        self.applications, self.running, self.http = {}, False, {}

    def model(self, name: str) -> str:
        """The model of a deployment."""
        found: str = self.applications[name]["deployed_app_config"]["args"]["model"]
        return found

    def _keep(self, config: dict[str, Any]) -> None:
        self.applications[config["name"]] = {
            "name": config["name"],
            "route_prefix": config["route_prefix"],
            "status": "DEPLOYING",
            "message": "",
            "deployed_app_config": config,
            "deployments": {},
        }

    def _settle(self, one: dict[str, Any]) -> None:
        model = one["deployed_app_config"]["args"]["model"]
        failed = model in self.fails
        said = f"Error: ray::ServeReplica\n  CannotServe: cannot serve: {model} is broken\nThe end." if failed else ""
        one["status"] = "DEPLOY_FAILED" if failed else "RUNNING"
        replica = {"state": "RUNNING", "node_ip": "10.0.0.1", "node_id": "n1", "log_file_path": "/serve/replica.log"}
        one["deployments"] = {"Slipway": {"message": said, "replicas": [] if failed else [replica]}}


@contextmanager
def fake_ray() -> Iterator[FakeRay]:
    """A stand-in that listens on 127.0.0.1. It also answers as the proxy of its deployments."""
    made = FakeRay()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == PATH:
                self._answer(200, json.dumps(made.look()).encode())
            else:
                self._answer(200, f"a line of {self.path}\n".encode())

        def do_PUT(self) -> None:
            config = json.loads(self._body())
            if any(one["route_prefix"] == "/refused" for one in config["applications"]):
                self._answer(400, b"Traceback:\n  somewhere\nValueError: the reason of the refusal\n")
                return
            made.put(config)
            self._answer(200, b"")

        def do_DELETE(self) -> None:
            made.delete()
            self._answer(200, b"")

        def do_POST(self) -> None:
            self._body()
            made.invoked.append(self.path)
            self._answer(200, ANSWER)

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers["content-length"]))

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
