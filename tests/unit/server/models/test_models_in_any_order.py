"""Submit, leave, load, swap, compare, unload, in any order: every accepted request ends in exactly one right answer."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from server.backends import BackendOptions
from server.errors import ClientGone, SlipwayError, UnknownModel
from server.models import LoadOptions, Models
from server.models.load import Loader
from server.observe.metrics import Metrics
from server.request import InferRequest
from server.settings.options import Settings
from tests.fake_models import FakeSession, head, version_folder

VERSIONS = st.sampled_from(["1", "2", "3"])
INLINE = Settings(inline_below_us=1_000_000, max_queue_ms=60_000, max_queue_delay_us=300)
"""With a delay requests really wait, so that an unload finds some in the queue."""


class OneThread(asyncio.SelectorEventLoop):
    """What would run beside the loop runs on it, a turn later: the same rules always give the same order."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()
        self.call_soon(self._settle, future, func, args)
        return future

    @staticmethod
    def _settle(future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is handed on
            future.set_exception(error)


class Asked:
    """A request with a value of its own, and all of its answers."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.answers: list[InferRequest] = []
        self.request = InferRequest((np.full((1, 4), value, np.float32),), 1, self.answers.append)

    def check(self) -> None:
        (answer,) = self.answers
        if answer.abandoned:
            assert isinstance(answer.error, ClientGone) or answer.outputs is not None
            return
        assert answer.error is None
        assert answer.outputs is not None
        np.testing.assert_array_equal(answer.outputs[0], np.full((1, 4), 2 * self.value, np.float32))


class AnyOrder(RuleBasedStateMachine):
    """The real registry, loader, queue and scheduler, on an event loop that turns as often as a rule says."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = OneThread()
        self.models = self.run(self.begin())
        self.asked: list[Asked] = []
        self.background: list[asyncio.Future[Any]] = []

    async def begin(self) -> Models:
        loader = Loader(INLINE)
        return Models(INLINE, Metrics(lambda: True, "1"), loader)

    def run(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)

    def later(self, work: Awaitable[Any]) -> None:
        self.background.append(asyncio.ensure_future(work, loop=self.loop))

    @rule()
    def submit(self) -> None:
        one = Asked(len(self.asked) + 1)

        async def go() -> None:
            try:
                model = self.models.ask("m", head())
            except UnknownModel:
                assert not self.models.all()
                return
            model.submit(one.request)
            if model.watch is not None:
                model.watch(one.request)
            self.asked.append(one)

        self.run(go())

    @rule(back=st.integers(1, 5))
    def leave(self, back: int) -> None:
        """One of the last callers goes away."""
        for one in self.asked[-back:][:1]:
            one.request.abandoned = True

    @rule(version=VERSIONS, retire=st.booleans(), again=st.booleans(), wanted=st.sampled_from([None, True, False]))
    def load(self, version: str, retire: bool, again: bool, wanted: bool | None) -> None:
        path = version_folder(Path(self.folder.name), "m", version)
        options = LoadOptions(activate=wanted, retire=retire, reload=again)
        self.later(self.models.load(path, options, name="m", version=version))

    @rule(version=st.one_of(VERSIONS, st.none()))
    def unload(self, version: str | None) -> None:
        self.later(self.models.unload("m", version))

    @rule(version=VERSIONS, what=st.sampled_from(["promote", "roll_back", "canary", "shadow", "label", "end"]))
    def release(self, version: str, what: str) -> None:
        releases = self.models.releases
        calls = {
            "promote": lambda: releases.promote("m", version),
            "roll_back": lambda: releases.roll_back("m"),
            "canary": lambda: releases.canary("m", version, 50.0),
            "shadow": lambda: releases.shadow("m", version),
            "label": lambda: releases.label("m", "stable", version),
            "end": lambda: releases.end("m", "enough"),
        }
        with contextlib.suppress(SlipwayError):
            calls[what]()

    @rule(turns=st.integers(1, 20))
    def turn(self, turns: int) -> None:
        async def go() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.run(go())

    @rule()
    def settle(self) -> None:
        """Everything that was begun in the background comes to its end; what is refused, is refused by us."""
        for outcome in self.run(self.gather()):
            assert outcome is None or not isinstance(outcome, BaseException) or isinstance(outcome, SlipwayError)

    async def gather(self) -> list[Any]:
        begun, self.background = self.background, []
        return await asyncio.gather(*begun, return_exceptions=True)

    @invariant()
    def look_ups_and_versions_agree(self) -> None:
        for versions in self.models.known():
            current = versions.current()
            if current is None:
                continue
            assert self.models.get(versions.name) is current.model
            for one in versions.ready():
                assert self.models.get(versions.name, one.version) is one.model
            choosing = [model for model in self.models.all() if model.choose is not None]
            assert choosing in ([], [current.model])

    @invariant()
    def nobody_has_two_answers(self) -> None:
        assert all(len(one.answers) <= 1 for one in self.asked)

    def teardown(self) -> None:
        self.settle()
        self.run(self.models.close())
        for one in self.asked:
            one.check()
        assert self.models.all() == []
        self.loop.close()
        self.folder.cleanup()


def test_every_accepted_request_ends_in_exactly_one_right_answer(monkeypatch: Any) -> None:
    def load(_path: Path, _options: BackendOptions) -> FakeSession:
        return FakeSession()

    monkeypatch.setattr("server.models.load.tensor_models.loader", lambda _name: load)
    AnyOrder.TestCase.settings = settings(max_examples=30, stateful_step_count=30)
    AnyOrder.TestCase("runTest").runTest()
