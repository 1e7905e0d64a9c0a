"""Names of models and versions where they enter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import MalformedInput
from server.models.names import LONGEST_NAME, LONGEST_VERSION, check_name, check_version, is_valid, shown
from server.models.repository import version_key


@pytest.mark.parametrize("name", ["m", "no/such thing?", "日本", "a.b-c_d", "x" * LONGEST_NAME])
def test_printable_names_are_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "..", "a/../b", "/a", "a//b", ".", "a\0b", "a\nb", "\ud800", "x" * (LONGEST_NAME + 1)]
)
def test_paths_control_characters_and_surrogates_are_not(name: str) -> None:
    with pytest.raises(MalformedInput):
        check_name(name)


@pytest.mark.parametrize("version", ["", "1/2", "9" * (LONGEST_VERSION + 1), "9" * 4_301, "\ud800"])
def test_versions_follow_the_same_rules_and_are_one_part(version: str) -> None:
    with pytest.raises(MalformedInput):
        check_version(version)


@given(st.text(max_size=LONGEST_VERSION))
def test_a_valid_version_can_be_compared_and_written(version: str) -> None:
    if is_valid("m", version):
        version_key(version)
        version.encode()


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_can_be_shown(text: str) -> None:
    shown(text).encode()
