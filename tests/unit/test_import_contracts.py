"""The allow lists of imports: what they let pass, and what they name."""

from __future__ import annotations

import pytest
from grimp import ImportGraph

from tests.import_contracts import AllowListContract

ROOMS = ["a.codecs -> .tensors b", "a.tensors ->", "a.models -> .http", "a.http ->", "b.record ->"]


def graph(*imports: tuple[str, str]) -> ImportGraph:
    made = ImportGraph()
    for module in {one for pair in imports for one in pair}:
        made.add_module(module, is_squashed=module == "numpy")
    for importer, imported in imports:
        made.add_import(importer=importer, imported=imported, line_number=7, line_contents=f"import {imported}")
    return made


@pytest.mark.parametrize(
    ("imports", "broken"),
    [
        ([("a.codecs.json", "a.codecs.csv")], []),
        ([("a.codecs.json", "a.tensors")], []),
        ([("a.codecs", "a.tensors.dtypes")], []),
        ([("a.codecs.json", "numpy")], []),
        ([("a.codecs.json", "b")], []),
        ([("a.models", "a.http"), ("a.codecs", "a.tensors")], []),
        ([("a.codecs.json", "b.record")], ["a.codecs.json -> b.record (l. 7)"]),
        ([("a.codecs", "a.http")], ["a.codecs -> a.http (l. 7)"]),
        ([("a.http", "a.models"), ("a.models", "a.http")], ["a.http -> a.models (l. 7)"]),
        ([("a.codecs_of_others", "a.tensors")], ["a.codecs_of_others is in no room: give it a line"]),
    ],
)
def test_imports_stay_inside_the_room_and_its_list(imports: list[tuple[str, str]], broken: list[str]) -> None:
    contract = AllowListContract(name="rooms", session_options={}, contract_options={"rooms": ROOMS})
    checked = contract.check(graph(*imports), verbose=False)
    assert checked.metadata["imports"] == broken
    assert checked.kept is (not broken)
