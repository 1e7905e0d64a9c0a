"""``container.deploy --engine local`` inside of a test: commands, requests, and the processes that they leave."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from container.deploy.__main__ import main
from container.deploy.calls import Call
from container.deploy.local import state
from container.deploy.local.state import Folder
from container.deploy.order import Clock
from tests.integration.server_process import eventually


class Machine:
    """The engine of this machine with a folder of the test's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.flags = ("--engine", "local", "--state", str(root / "state"), "--port", "0")
        self.environment = ("--env", "SLIPWAY_DRAIN_GRACE_S=0")
        self.folder = Folder(root / "state" / "deployments" / "digits")
        self.body = root / "body.json"
        self.body.write_text('{"instances": [[1, 2, 3, 4]]}')

    def run(
        self,
        command: str,
        *arguments: str | Path,
        observe: Callable[[Call], None] = lambda _: None,
        clock: Clock | None = None,
        code: int = 0,
    ) -> list[str]:
        """The lines of a command, which must end with this code."""
        lines: list[str] = []
        ended = main([command, *map(str, arguments), *self.flags], say=lines.append, observe=observe, clock=clock)
        assert ended == code, lines
        return lines

    def up(self, artifact: Path, *more: str, observe: Callable[[Call], None] = lambda _: None) -> list[str]:
        return self.run("up", artifact, *self.environment, *more, observe=observe)

    def answer(self, *more: str) -> str:
        return self.run("invoke", "digits", "--body", self.body, *more)[0]

    def status(self) -> Any:
        return json.loads(self.run("status", "digits", "--json")[0])

    def post(self, value: float) -> int:
        """The status of one request to the endpoint with four such values."""
        where = urlsplit(state.read(self.folder.report)["url"])
        client = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
        try:
            body = json.dumps({"instances": [[value] * 4]})
            client.request("POST", "/endpoints/digits/invocations", body, {"content-type": "application/json"})
            response = client.getresponse()
            response.read()
            return response.status
        finally:
            client.close()

    def content(self) -> tuple[object, ...]:
        """What is there: the wanted state, releases, every file but what is unpacked, and whether a host runs."""
        wanted = state.read(self.folder.wanted)
        asked = tuple(wanted.get(name) for name in ("release", "previous", "instances", "candidate"))
        every = (one.relative_to(self.folder.root) for one in self.folder.root.rglob("*"))
        files = sorted(str(one) for one in every if one.parts[0] not in ("workspace", "before.json"))
        return *asked, sorted(self.folder.releases()), files, state.running(self.folder)

    def left(self, count: int) -> None:
        """Wait until so many processes are left: a host and its server are two. One that drains ends by itself."""
        eventually(lambda: len(self.processes()) == count, f"{count} processes are left")

    def processes(self) -> dict[int, str]:
        """The processes that name this test's folder in their command line or environment."""
        found, marker = {}, str(self.root).encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            try:
                line, environ = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if marker in line or marker in environ:
                found[int(entry.name)] = line.replace(b"\0", b" ").decode("utf-8", "replace")
        return found
