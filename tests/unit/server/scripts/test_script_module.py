"""A user's script: where it is looked for, and that its modules are its own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.errors import BrokenArtifact
from server.scripts.script_module import SHIMS, ScriptModule, add_shims_to_path, find_script


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def opened() -> Iterator[list[ScriptModule]]:
    scripts: list[ScriptModule] = []
    before = set(sys.modules)
    yield scripts
    for one in scripts:
        one.close()
    assert not [name for name in set(sys.modules) - before if name.startswith("slipway_script_")]


def test_the_script_is_looked_for_in_code_then_beside_the_model_then_elsewhere(tmp_path: Path) -> None:
    model, other = tmp_path / "model", write(tmp_path / "other", inference="")
    model.mkdir()
    assert find_script(model, "inference.py") is None
    assert find_script(model, "inference.py", str(other)) == other / "inference.py"
    write(model, inference="")
    assert find_script(model, "inference.py", str(other)) == model / "inference.py"
    write(model, code__inference="")
    assert find_script(model, "inference.py", str(other)) == model / "code" / "inference.py"


def test_two_models_with_the_same_file_names_do_not_meet(tmp_path: Path, opened: list[ScriptModule]) -> None:
    text = (
        "import tables\ndef answer():\n    import later.deep as d\n    from later import deep\n    return tables.N, d.N"
    )
    for n in (1, 2):
        write(tmp_path / str(n), inference=text, tables=f"N = {n}", later____init__="", later__deep=f"N = {10 * n}")
        opened.append(ScriptModule(tmp_path / str(n) / "inference.py", "m"))
    assert [one.module.answer() for one in opened] == [(1, 10), (2, 20)]
    assert not {"inference", "tables", "later"} & set(sys.modules)
    opened[0].close()
    assert opened[1].module.answer() == (2, 20)


def test_modules_import_one_another_and_the_standard_library(tmp_path: Path, opened: list[ScriptModule]) -> None:
    write(
        tmp_path,
        inference="from a import *\nimport os.path\nfrom pack.one import twice\nimport inference as me",
        a="import json, b\nX = json.loads(b.TEXT)",
        b="TEXT = '[1]'",
        pack____init__="",
        pack__one="from .two import N\nimport pack.two\ntwice = (N, pack.two.N)",
        pack__two="N = 5",
        lib__vendored="V = 1",
    )
    opened.append(ScriptModule(tmp_path / "inference.py", "m"))
    module = opened[0].module
    assert (module.X, module.twice, module.os.path.sep) == ([1], (5, 5), "/")
    assert module.me is module


def test_nothing_is_written_beside_the_script(tmp_path: Path, opened: list[ScriptModule]) -> None:
    opened.append(ScriptModule(write(tmp_path, inference="import other", other="") / "inference.py", "m"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inference.py", "other.py"]


def test_pickles_find_their_classes_while_the_model_loads(tmp_path: Path, opened: list[ScriptModule]) -> None:
    text = (
        "import pickle, shapes\nimport dataclasses\n@dataclasses.dataclass\nclass Own:\n    x: int\n"
        "def load(): return pickle.loads(b'cshapes\\nSquare\\n(tR.')\n"
    )
    opened.append(ScriptModule(write(tmp_path, inference=text, shapes="class Square: pass") / "inference.py", "m"))
    with opened[0].visible():
        square = opened[0].module.load()
    assert type(square) is opened[0].module.shapes.Square
    assert "shapes" not in sys.modules


def test_what_a_script_prints_goes_to_the_log(
    tmp_path: Path, opened: list[ScriptModule], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    text = "import io\nprint('hello', 1, sep='-')\nown = io.StringIO()\nprint('mine', file=own)"
    opened.append(ScriptModule(write(tmp_path, inference=text) / "inference.py", "m"))
    assert [(one.name, one.getMessage()) for one in caplog.records] == [("slipway.script.m", "hello-1")]
    assert opened[0].module.own.getvalue() == "mine\n"


def test_a_script_that_fails_leaves_no_module(tmp_path: Path) -> None:
    before = set(sys.modules)
    with pytest.raises(BrokenArtifact, match=r"inference\.py cannot be imported: ZeroDivisionError"):
        ScriptModule(write(tmp_path, inference="import other\n1 / 0", other="") / "inference.py", "m")
    assert not [name for name in set(sys.modules) - before if name.startswith("slipway_script_")]


@pytest.mark.parametrize(("mode", "place"), [("missing", -1), ("always", 0), ("never", None)])
def test_shims_never_come_before_an_installed_package_unless_asked(
    monkeypatch: pytest.MonkeyPatch, mode: str, place: int | None
) -> None:
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(SHIMS)])
    add_shims_to_path(mode)
    assert (str(SHIMS) in sys.path) is (place is not None)
    if place is not None:
        assert sys.path[place] == str(SHIMS)
