"""An artifact, an account, and the command line against it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import botocore.httpsession
import orjson
import pytest
from botocore.loaders import JSONFileLoader

from container.deploy.__main__ import main
from container.deploy.calls import Call
from container.deploy.order import Clock
from tests.fake_account import IMAGE, ROLE, FakeAccount, fake_account
from tests.integration import sample_models

BASE = ("--image", IMAGE, "--role", ROLE)


_load_file = JSONFileLoader.load_file


@functools.cache
def _description(path: str) -> bytes:
    """A description of a service, as JSON. Botocore reads it anew for each session, which each test needs."""
    return orjson.dumps(_load_file(JSONFileLoader(), path))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No deploy.toml of the checkout, no configuration of the user, and no call that leaves the machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setattr(JSONFileLoader, "load_file", lambda _loader, path: orjson.loads(_description(path)))
    send = botocore.httpsession.URLLib3Session.send

    def local_only(session: Any, request: Any) -> Any:
        assert request.url.startswith("http://127.0.0.1:"), f"a call leaves the machine: {request.url}"
        return send(session, request)

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", local_only)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAccount]:
    with fake_account(monkeypatch) as made:
        yield made


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return sample_models.fake(tmp_path / "digits", name="digits")


@pytest.fixture
def other_artifact(tmp_path: Path) -> Path:
    """The same model's next version."""
    return sample_models.fake(tmp_path / "digits-2", name="digits", version="2", width=4)


@dataclass
class Ran:
    """What one command said and how it ended."""

    code: int
    lines: list[str]
    errors: str

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def document(self) -> Any:
        return json.loads(self.text)


@dataclass
class FakeClock:
    seconds: float = 0.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> Clock:
        return Clock(now=lambda: self.seconds, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


Deploy = Callable[..., Ran]


@pytest.fixture
def deploy(capsys: pytest.CaptureFixture[str]) -> Deploy:
    """``deploy(command, *arguments)``; ``observe`` gets every call before it is sent."""

    def run(command: str, *arguments: str | Path, observe: Callable[[Call], None] = lambda _: None) -> Ran:
        lines: list[str] = []
        given: Sequence[str] = [command, *(str(one) for one in arguments)]
        code = main(given, say=lines.append, clock=FakeClock().clock(), observe=observe)
        return Ran(code, lines, capsys.readouterr().err)

    return run
