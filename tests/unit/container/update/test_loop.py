"""The loop: every step once and in order, refusals that leave what answers, and a kill at any call or line of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from container.update import __main__ as command
from container.update import judge, record
from container.update.errors import StepFailed, Unreachable, UpdateError
from container.update.loop import Loop
from container.update.settings import Settings
from container.update.watch import Arrival, Folder

STEPS = ["build", "gate", "load", "shadow", "canary 5", "canary 25", "promote", "publish"]
GOOD_GATE = {
    "metric": "accuracy", "rows": 9, "failed_rows": 0, "least_score": 0.0, "max_drop": 0.01, "against": "1",
    "score": 0.9, "drop": {"value": 0.0, "low": -0.01, "high": 0.01},
}  # fmt: skip
ARM = {"answers": 100, "faults": 0, "p95_ms": 2.0}
GOOD_SHADOW = {
    "outcomes": {"same": 150, "different": 50},
    "wanted": 200,
    "step_s": 9,
    "shadow_failures": 0,
    "ended": "",
}
GOOD_CANARY = {
    "wanted": 100, "step_s": 9, "error_rate": 0.01, "latency": 2.0, "candidate": ARM, "stable": ARM, "ended": ""
}  # fmt: skip


class Killed(BaseException):
    """The end of the process at this point."""


@dataclass
class World:
    """What outlives a kill: the server's state, and artifacts. ``budget``: calls until the process is killed."""

    answers: str = "1"
    loaded: set[str] = field(default_factory=lambda: {"1"})
    published: set[str] = field(default_factory=set)
    built: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    budget: int = 10**9
    broken: dict[str, Any] = field(default_factory=dict)
    """Evidence or an exception of a step, in the place of the good one."""
    after: bool = False
    """Whether a kill strikes after the effect of a call and not before it."""

    def effect(self, name: str, change: Callable[[], object], evidence: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(name)
        self.budget -= 1
        if self.budget == 0 and not self.after:
            raise Killed
        broken = self.broken.get(name)
        if isinstance(broken, Exception):
            raise broken
        change()
        if self.budget == 0:
            raise Killed
        return dict(broken if broken is not None else evidence)

    # The engine

    def serving(self) -> tuple[str, Path | None] | None:
        return self.answers, Path("served")

    def load(self, version: str, artifact: Path) -> dict[str, Any]:
        return self.effect("load", lambda: self.loaded.add(version), {"artifact": str(artifact)})

    def shadow(self, version: str) -> dict[str, Any]:
        return self.effect("shadow", lambda: None, {**GOOD_SHADOW, "version": version})

    def canary(self, version: str, percent: float) -> dict[str, Any]:
        return self.effect(f"canary {percent:g}", lambda: None, {**GOOD_CANARY, "percent": percent})

    def promote(self, version: str) -> dict[str, Any]:
        def change() -> None:
            self.answers = version

        told = self.effect("promote", change, {"version": version, "answers": version, "reason": ""})
        self.answers = told["answers"]
        return told

    def publish(self, version: str, artifact: Path) -> dict[str, Any]:
        return self.effect("publish", lambda: self.published.add(version), {})

    def withdraw(self, version: str) -> dict[str, Any]:
        def change() -> None:
            self.loaded.discard(version)
            self.answers = "1"

        return self.effect("withdraw", change, {"answers": "1"})

    # Its helpers

    def build(self, settings: Settings, source: Path, version: str) -> dict[str, Any]:
        return self.effect("build", lambda: self.built.add(version), {"source": str(source)})

    def measure(self, settings: Settings, candidate: Path, against: tuple[str, Path] | None) -> dict[str, Any]:
        assert against == ("1", Path("served"))
        return self.effect("gate", lambda: None, GOOD_GATE)


def settings(tmp_path: Path) -> Settings:
    return Settings(watch=str(tmp_path), name="m", work=str(tmp_path / "work"), held_out="rows.npz")


def loop(world: World, tmp_path: Path) -> Loop:
    """A new process: only the record and the world are there."""
    kept = record.opened(tmp_path / "work" / record.NAME)
    return Loop(settings(tmp_path), kept, world, world.build, world.measure)


ARRIVAL = Arrival(Path("new.onnx"), "d1" * 32)


def update(world: World, tmp_path: Path) -> str:
    """Run the loop until the update has ended, as a supervisor would: a kill starts it again."""
    for _ in range(3):
        one = loop(world, tmp_path)
        try:
            started = one.unfinished()
            if started is None:
                if one.known(ARRIVAL):
                    return one.record.updates[-1].outcome
                started = one.begin(ARRIVAL)
            return one.run(started)
        except Killed:
            world.budget = 10**9
    raise AssertionError("the update did not end")


def test_every_step_once_and_in_order(tmp_path: Path) -> None:
    world = World()
    assert update(world, tmp_path) == "promoted"
    assert world.calls == STEPS
    assert (world.answers, world.published) == ("2", {"2"})
    assert update(world, tmp_path) == "promoted"  # the same content is not tried again
    assert world.calls == STEPS


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("calls", range(1, len(STEPS) + 1))
def test_a_kill_at_any_call_leads_to_the_same_end(calls: int, after: bool, tmp_path: Path) -> None:
    world = World(budget=calls, after=after)
    assert update(world, tmp_path) == "promoted"
    assert (world.answers, world.published, world.loaded) == ("2", {"2"}, {"1", "2"})
    assert [name for name, _ in itertools.groupby(world.calls)] == STEPS  # only the killed step was called again
    assert len(world.calls) == len(STEPS) + 1


@pytest.mark.parametrize("broken", ["gate", "shadow", "canary 25", "promote"])
@pytest.mark.parametrize("calls", range(1, len(STEPS) + 2))
def test_a_kill_during_an_update_that_is_rejected_leaves_the_old_version(
    broken: str, calls: int, tmp_path: Path
) -> None:
    bad = {
        "gate": {**GOOD_GATE, "score": -1.0},
        "shadow": {**GOOD_SHADOW, "outcomes": {"same": 199, "failed": 1}},
        "canary 25": {**GOOD_CANARY, "percent": 25, "candidate": {**ARM, "faults": 50}},
        "promote": {"version": "2", "answers": "1", "reason": "rolled back on probation"},
    }
    world = World(budget=calls, broken={broken: bad[broken]})
    assert update(world, tmp_path) == "rejected"
    assert (world.answers, world.published, world.loaded) == ("1", set(), {"1"})


@pytest.mark.parametrize("cut", range(3, 60, 4))
def test_a_record_that_was_cut_off_is_continued(cut: int, tmp_path: Path) -> None:
    world = World(budget=5)
    one = loop(world, tmp_path)
    with pytest.raises(Killed):
        one.run(one.begin(ARRIVAL))
    path = tmp_path / "work" / record.NAME
    path.write_bytes(path.read_bytes()[:-cut])
    world.budget = 10**9
    assert update(world, tmp_path) == "promoted"
    assert world.answers == "2"
    for line in path.read_text().splitlines():
        json.loads(line)


@pytest.mark.parametrize("step", ["build", "load", "shadow", "canary 5", "promote", "publish"])
def test_a_step_that_fails_rejects_the_candidate_with_its_reason(step: str, tmp_path: Path) -> None:
    world = World(broken={step: StepFailed("no memory")})
    assert update(world, tmp_path) == "rejected"
    assert (world.answers, world.loaded) == ("1", {"1"})
    ended = loop(world, tmp_path).record.updates[-1]
    assert ended.reason == "no memory"
    assert ("withdraw" in world.calls) == (step != "build")


def test_an_engine_that_does_not_respond_is_asked_again_and_nothing_is_decided(tmp_path: Path) -> None:
    world = World(broken={"shadow": Unreachable("restarting")})
    one = loop(world, tmp_path)
    started = one.begin(ARRIVAL)
    for _ in range(2):
        with pytest.raises(Unreachable):
            one.run(started)
    assert world.answers == "1"
    world.broken.clear()
    assert one.run(started) == "promoted"
    assert world.calls.count("load") == 1


def test_versions_go_on_from_those_of_the_server_and_of_the_record(tmp_path: Path) -> None:
    world = World(answers="7", loaded={"7"}, broken={"build": StepFailed("no")})
    one = loop(world, tmp_path)
    first = one.begin(ARRIVAL)
    assert first.version == "8"
    one.run(first)
    assert one.begin(Arrival(Path("b"), "d2" * 32)).version == "9"


def test_the_first_version_needs_nothing_to_compare_with(tmp_path: Path) -> None:
    world = World()
    one = loop(world, tmp_path)
    one.engine = First(world)
    one.measure = lambda *_: GOOD_GATE
    assert one.run(one.begin(ARRIVAL)) == "promoted"
    assert world.calls == ["build", "load", "publish"]


class First:
    """An engine that serves nothing yet."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.load, self.publish, self.withdraw = world.load, world.publish, world.withdraw
        self.shadow, self.canary, self.promote = world.shadow, world.canary, world.promote

    def serving(self) -> None:
        return None


@pytest.mark.parametrize(
    ("step", "evidence", "said"),
    [
        ("gate", {**GOOD_GATE, "failed_rows": 2}, "held-out rows got no answer"),
        ("gate", {**GOOD_GATE, "score": 0.5, "least_score": 0.6}, "below the least score"),
        ("gate", {**GOOD_GATE, "drop": {"value": 0.0, "low": -0.01, "high": 0.02}}, "may be worse by 0.0200"),
        ("gate", {**GOOD_GATE, "drop": {"value": -0.2, "low": -0.3, "high": -0.1}}, ""),
        ("gate", {"skipped": "no rows"}, ""),
        ("shadow", GOOD_SHADOW, ""),
        ("shadow", {**GOOD_SHADOW, "outcomes": {"same": 3}}, "3 of 200 shadow requests within 9 s; is there traffic?"),
        ("shadow", {**GOOD_SHADOW, "ended": "by a call"}, "was ended: by a call"),
        ("canary 5", {**GOOD_CANARY, "percent": 5}, ""),
        ("canary 5", {**GOOD_CANARY, "percent": 5, "candidate": {**ARM, "faults": 3}}, "error rate 3.00%"),
        ("canary 5", {**GOOD_CANARY, "percent": 5, "candidate": {**ARM, "p95_ms": 4.5}}, "p95 4.5 ms against 2 ms"),
        ("canary 5", {**GOOD_CANARY, "percent": 5, "latency": 0, "candidate": {**ARM, "p95_ms": 4.5}}, ""),
        ("canary 5", {**GOOD_CANARY, "percent": 5, "candidate": {**ARM, "answers": 1}}, "1 of 100 answers"),
        ("canary 5", {**GOOD_CANARY, "percent": 5, "ended": "rules"}, "was ended: rules"),
        ("promote", {"version": "2", "answers": "1", "reason": "worse"}, "version 1 answers again: worse"),
        ("build", {}, ""),
    ],
)
def test_decisions_from_evidence(step: str, evidence: dict[str, Any], said: str) -> None:
    verdict = judge.of_step(step, evidence)
    assert said in verdict
    assert bool(verdict) == bool(said)


def test_a_replay_decides_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(broken={"shadow": {**GOOD_SHADOW, "outcomes": {"same": 199, "failed": 1}}})
    update(world, tmp_path)
    assert command.main(["replay", str(tmp_path / "work")]) == 0
    said = capsys.readouterr().out
    assert "2-d1d1d1d1d1d1: rejected: 1 of 200 shadow requests failed" in said
    path = tmp_path / "work" / record.NAME
    path.write_text(
        path.read_text().replace('"same": 199, "failed": 1', '"same": 200')
    )  # evidence that no longer says so
    path.write_text(path.read_text().replace('"rejected"', '"promoted"'))
    assert command.main(["replay", str(path)]) == 0
    path.write_text(path.read_text().replace('"same": 200', '"same": 9'))
    assert command.main(["replay", str(path)]) == 3
    assert command.main(["replay", str(tmp_path)]) == 1


def test_a_record_of_another_kind_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / record.NAME
    path.write_text('{"x": 1}\n')
    with pytest.raises(UpdateError, match="line 1 is no line of a record"):
        record.opened(path)


def test_a_model_counts_when_it_has_stopped_changing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    model = tmp_path / "a"
    model.mkdir()
    (model / "w.onnx").write_bytes(b"1")
    assert folder.look() is None
    (model / "w.onnx").write_bytes(b"12")
    assert folder.look() is None  # it has changed since
    first = folder.look()
    assert first is not None
    assert first.path == model
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "b.onnx.part").write_bytes(b"x")
    folder.look()
    again = folder.look()
    assert again == first
    (tmp_path / "b.onnx").write_bytes(b"x")
    folder.look()
    second = folder.look()
    assert second is not None
    assert second.path.name == "b.onnx"
    assert second.digest != first.digest
    (model / "more.tmp").write_bytes(b"")
    with pytest.raises(UpdateError, match="is no folder"):
        Folder(tmp_path / "none").look()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["once"], "--watch is missing"),
        (["once", "--watch", "w"], "--name is missing"),
        (["once", "--watch", "w", "--name", "m", "--canary", "25,5"], "growing percentages"),
        (["once", "--watch", "w", "--name", "m", "--canary", "x"], "canary cannot be 'x'"),
        (["once", "--watch", "w", "--name", "m", "--max-drop", "-1"], "max_drop cannot be '-1'"),
        (["once", "--watch", "w", "--name", "m", "--file", "none.toml"], "cannot read --file"),
        (["once", "--watch", "w", "--name", "m", "--server", "ftp://x"], "must be http://HOST:PORT"),
    ],
)
def test_a_wrong_command_is_one_sentence(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 1
    assert said in capsys.readouterr().err


def test_settings_of_a_file_are_overridden_by_flags(tmp_path: Path) -> None:
    from container.update.settings import parser, read

    path = tmp_path / "update.toml"
    path.write_text('watch = "w"\nname = "m"\ncanary = [1, 10]\noptimize = ["--budget", "60s"]\nmax_drop = 0.5\n')
    given = read(parser().parse_args(["once", "--file", str(path), "--max-drop", "0.25"]))
    assert (given.watch, given.canary, given.optimize) == ("w", (1.0, 10.0), ("--budget", "60s"))
    assert given.max_drop == 0.25
    path.write_text("watched = 1\n")
    with pytest.raises(UpdateError, match="unknown setting watched"):
        read(parser().parse_args(["once", "--file", str(path)]))
