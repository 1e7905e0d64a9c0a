"""The number of processes: a whole number, or a word for one for each core."""

from __future__ import annotations

import dataclasses

import pytest

from server.errors import BadSetting
from server.replicas.supervisor import count_of
from server.settings.options import Settings
from server.settings.reader import read
from server.system.cores import available_cores


@pytest.mark.parametrize(("given", "processes"), [("auto", 0), ("0", 0), ("3", 3)])
def test_auto_stands_for_0(given: str, processes: int) -> None:
    assert read(["--processes", given], {}).processes == processes
    assert read([], {"SLIPWAY_PROCESSES": given}).processes == processes


@pytest.mark.parametrize("given", ["-1", "many", "1.5", ""])
def test_other_words_are_refused(given: str) -> None:
    with pytest.raises(BadSetting, match="--processes must be"):
        read(["--processes", given], {})


def test_the_word_belongs_to_this_option_alone() -> None:
    with pytest.raises(BadSetting, match="--instances must be a whole number"):
        read(["--instances", "auto"], {})


def test_one_process_for_each_core_unless_sessions_need_one() -> None:
    each = Settings(processes=0)
    assert count_of(each) == available_cores()
    assert count_of(dataclasses.replace(each, sessions=True)) == 1
    with pytest.raises(BadSetting, match="--processes 1"):
        count_of(Settings(processes=2, sessions=True))


def test_cores_are_shared_and_never_none() -> None:
    assert available_cores(processes=1_000) == 1
