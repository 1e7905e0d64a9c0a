"""The allow list of imports: what it lets pass, and what it names."""

from __future__ import annotations

import pytest
from grimp import ImportGraph

from tests.import_contracts import AllowListContract


def graph(*imports: tuple[str, str]) -> ImportGraph:
    made = ImportGraph()
    for module in {one for pair in imports for one in pair}:
        made.add_module(module, is_squashed=module == "numpy")
    for importer, imported in imports:
        made.add_import(importer=importer, imported=imported, line_number=7, line_contents=f"import {imported}")
    return made


@pytest.mark.parametrize(
    ("imports", "kept"),
    [
        ([("a.codecs.json", "a.codecs.csv")], True),
        ([("a.codecs.json", "a.tensors")], True),
        ([("a.codecs.json", "a.tensors.dtypes")], True),
        ([("a.codecs.json", "numpy")], True),
        ([("a.models", "a.http"), ("a.codecs", "a.tensors")], True),
        ([("a.codecs.json", "a.tensors_of_others"), ("a.codecs", "a.tensors")], False),
        ([("a.codecs", "a.http")], False),
        ([("a.codecs.json", "b.record"), ("a.codecs", "a.tensors")], False),
    ],
)
def test_imports_stay_inside_the_package_and_its_list(imports: list[tuple[str, str]], kept: bool) -> None:
    contract = AllowListContract(
        name="codecs", session_options={}, contract_options={"source": "a.codecs", "allowed": ["a.tensors"]}
    )
    made = graph(*imports)
    made.add_module("a.codecs")
    checked = contract.check(made, verbose=False)
    assert checked.kept is kept
    assert all("(l. 7)" in line for line in checked.metadata["imports"])
