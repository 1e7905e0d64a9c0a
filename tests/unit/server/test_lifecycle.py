"""The lifecycle: forward only, whatever asks for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import NotReady
from server.lifecycle import Lifecycle, Phase

ORDER = {Phase.STARTING: 0, Phase.READY: 1, Phase.DRAINING: 2, Phase.FAILED: 3, Phase.STOPPED: 4}


def after(*phases: Phase) -> Lifecycle:
    lifecycle = Lifecycle()
    for phase in phases:
        lifecycle.move(phase)
    return lifecycle


def test_a_server_starts_by_starting_and_is_not_ready() -> None:
    lifecycle = Lifecycle()
    assert lifecycle.phase is Phase.STARTING
    assert not lifecycle.ready
    with pytest.raises(NotReady, match=r"^the server is starting$"):
        lifecycle.require_ready()


@pytest.mark.parametrize("phase", Phase)
def test_only_ready_is_ready(phase: Phase) -> None:
    lifecycle = Lifecycle()
    lifecycle.phase = phase
    assert lifecycle.ready is (phase is Phase.READY)


def test_a_ready_server_lets_requests_pass() -> None:
    after(Phase.READY).require_ready()


def test_the_way_of_a_good_life() -> None:
    assert after(Phase.READY, Phase.DRAINING, Phase.STOPPED).phase is Phase.STOPPED


def test_a_server_that_is_told_to_stop_while_starting_drains() -> None:
    assert after(Phase.DRAINING, Phase.STOPPED).phase is Phase.STOPPED


def test_a_failure_says_why_and_ends_in_stopped() -> None:
    lifecycle = Lifecycle()
    lifecycle.move(Phase.FAILED, "the model could not be loaded")
    with pytest.raises(NotReady, match=r"^the server is failed: the model could not be loaded$"):
        lifecycle.require_ready()
    lifecycle.move(Phase.STOPPED)
    assert lifecycle.phase is Phase.STOPPED


@pytest.mark.parametrize(
    ("reached", "asked"),
    [
        pytest.param((Phase.READY, Phase.DRAINING), Phase.READY, id="a load that ends during the drain"),
        pytest.param((Phase.READY, Phase.DRAINING), Phase.DRAINING, id="a second SIGTERM"),
        pytest.param((Phase.FAILED,), Phase.READY, id="ready after a failure"),
        pytest.param((Phase.FAILED,), Phase.DRAINING, id="SIGTERM after a failure"),
        pytest.param((Phase.DRAINING, Phase.STOPPED), Phase.FAILED, id="a failure after the end"),
        pytest.param((), Phase.STOPPED, id="an end without a drain"),
        pytest.param((Phase.READY,), Phase.STARTING, id="back to the start"),
    ],
)
def test_a_move_that_is_not_forward_changes_neither_phase_nor_reason(reached: tuple[Phase, ...], asked: Phase) -> None:
    lifecycle = after(*reached)
    lifecycle.reason = "as it was"
    phase = lifecycle.phase
    lifecycle.move(asked, "another")
    assert (lifecycle.phase, lifecycle.reason) == (phase, "as it was")


@given(st.lists(st.sampled_from(Phase), max_size=12))
def test_no_sequence_of_moves_goes_back(asked: list[Phase]) -> None:
    lifecycle = Lifecycle()
    for phase in asked:
        before = lifecycle.phase
        lifecycle.move(phase)
        assert ORDER[lifecycle.phase] >= ORDER[before]


def test_a_process_is_held_until_the_server_as_a_whole_is_ready() -> None:
    lifecycle, changes = Lifecycle(), []
    lifecycle.on_change = lambda: changes.append(lifecycle.ready)
    lifecycle.hold("1 of 2 processes are ready")
    lifecycle.move(Phase.READY)
    assert (lifecycle.ready, lifecycle.own_reason) == (False, "")
    with pytest.raises(NotReady, match="1 of 2 processes"):
        lifecycle.require_ready()
    lifecycle.hold("")
    lifecycle.hold("")
    lifecycle.require_ready()
    assert changes == [False, False, True]
    lifecycle.stall("no progress")
    assert lifecycle.own_reason == "no progress"
    lifecycle.move(Phase.FAILED, "the device is lost")
    assert lifecycle.own_reason == "failed the device is lost"
