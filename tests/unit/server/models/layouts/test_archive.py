"""Model archives: extracted within bounds into a private folder that goes away, and hostile ones refused."""

from __future__ import annotations

import gc
import json
import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from server.declaration import Handler
from server.errors import BrokenArtifact
from server.models.layouts import archive
from server.models.layouts.archive import open_archive, peek
from server.models.repository import identify, open_found, scan
from server.settings.options import Settings

HANDLER = b"class H:\n    def initialize(self, context): ...\n    def handle(self, data, context): return data\n"
MODEL = {"modelName": "mlp", "modelVersion": "1.2", "handler": "handler.py"}


def pack(path: Path, model: Mapping[str, Any] = MODEL, files: Mapping[str, bytes] | None = None, **top: Any) -> Path:
    """An archive as torch-model-archiver writes it: all files at the top, the manifest in MAR-INF/."""
    manifest = {
        "createdOn": "30/11/2026 02:45:47",
        "runtime": "python",
        "model": model,
        "archiverVersion": "0.12.0",
        **top,
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in {"handler.py": HANDLER, **(files or {})}.items():
            packed.writestr(name, data)
        packed.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    return path


def entry(path: Path, info: zipfile.ZipInfo | str, data: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(info, data)
    return path


def refused(path: Path) -> str:
    before = set(Path(os.environ.get("TMPDIR", "/tmp")).glob("slipway-archive-*"))
    with pytest.raises(BrokenArtifact) as raised:
        open_archive(path, scripts=True)
    assert set(Path(os.environ.get("TMPDIR", "/tmp")).glob("slipway-archive-*")) <= before
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Extractions of this test alone."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)


def test_an_archive_is_named_by_its_manifest_and_opened_in_a_private_folder(tmp_path: Path) -> None:
    config = b"minWorkers: 2\nbatchSize: 4\nmaxBatchDelay: 5\nhandler:\n  scale: 2.0\n"
    model = {**MODEL, "handler": "handler.py:H", "requirementsFile": "needs.txt", "configFile": "model-config.yaml"}
    path = pack(tmp_path / "any.mar", model, {"needs.txt": b"numpy", "model-config.yaml": config, "sub/x.bin": b"x"})
    (found,) = scan(path, Settings())
    assert (found.name, found.version) == ("mlp", "1.2")
    artifact = open_found(found, Settings())
    assert artifact.declaration.handler == Handler("H", "needs.txt", 4)
    assert (artifact.declaration.max_queue_delay_us, artifact.declaration.ignored) == (5_000, ("minWorkers",))
    assert artifact.script == artifact.root / "handler.py"
    assert (artifact.root / "sub" / "x.bin").read_bytes() == b"x"
    assert stat.S_IMODE(artifact.root.stat().st_mode) == 0o700
    assert artifact.temporary is not None
    artifact.temporary.remove()
    artifact.temporary.remove()
    assert not artifact.root.exists()


def test_the_folder_goes_when_nobody_holds_the_artifact(tmp_path: Path) -> None:
    artifact = open_archive(pack(tmp_path / "m.mar"), scripts=True)
    root = artifact.root
    del artifact
    gc.collect()
    assert not root.exists()


def test_a_folder_of_archives_is_a_folder_of_models_and_a_bad_one_fails_alone(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    pack(store / "a.mar", {**MODEL, "modelName": "one"})
    pack(store / "b.mar", {**MODEL, "modelName": "two", "modelVersion": "3"})
    (store / "c.mar").write_bytes(b"no zip")
    found = scan(store, Settings())
    assert [(one.name, one.version) for one in found] == [("one", "1.2"), ("two", "3"), ("c", "1")]
    with pytest.raises(BrokenArtifact, match=r"c\.mar cannot be read as a model archive"):
        open_found(found[2], Settings())


def test_an_extracted_archive_is_served_where_it_lies(tmp_path: Path) -> None:
    with zipfile.ZipFile(pack(tmp_path / "m.mar")) as packed:
        packed.extractall(tmp_path / "folder")
    artifact = open_found(identify(tmp_path / "folder", Settings()), Settings())
    assert (artifact.manifest.name, artifact.root, artifact.temporary) == ("mlp", tmp_path / "folder", None)


def test_no_code_is_run_and_nothing_extracted_without_scripts(tmp_path: Path) -> None:
    with pytest.raises(BrokenArtifact, match="--no-scripts forbids"):
        open_archive(pack(tmp_path / "m.mar"), scripts=False)


@pytest.mark.parametrize(
    "name", ["../out.py", "/etc/out", "a/../../out", "..\\out", "sub\\x", "a/.."], ids=lambda name: ascii(name)
)
def test_paths_that_leave_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    assert "leaves its folder" in refused(entry(pack(tmp_path / "m.mar"), name))
    assert not (tmp_path / "out.py").exists()


def test_links_encrypted_files_and_second_files_of_one_name_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "a link or a device" in refused(entry(pack(tmp_path / "a.mar"), link, b"/etc/passwd"))
    data = bytearray(pack(tmp_path / "b.mar").read_bytes())
    for mark, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        data[data.index(mark) + at] |= 1
    (tmp_path / "b.mar").write_bytes(data)
    assert "encrypted" in refused(tmp_path / "b.mar")
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = entry(pack(tmp_path / "c.mar"), "handler.py", HANDLER)
    assert "cannot be extracted" in refused(twice)


def test_bombs_are_refused_while_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(archive, "MOST_FILES", 20)
    bomb = entry(pack(tmp_path / "a.mar"), "zeros", bytes(50 << 20))
    assert "100 times its size" in refused(bomb)
    many = pack(tmp_path / "b.mar", files={f"f{number}": b"" for number in range(20)})
    assert "at most 20" in refused(many)
    ordinary = open_archive(pack(tmp_path / "c.mar", files={"zeros": bytes(1 << 19)}), scripts=True)
    assert (ordinary.root / "zeros").stat().st_size == 1 << 19


@pytest.mark.parametrize(
    ("model", "top", "reason"),
    [
        ({**MODEL, "handler": "text_classifier"}, {}, "it needs torchtext"),
        ({**MODEL, "handler": "base_handler"}, {}, "TorchServe's own"),
        ({**MODEL, "handler": "other.py"}, {}, "no file other.py"),
        ({**MODEL, "handler": "../handler.py"}, {}, "'handler' must name"),
        ({**MODEL, "handler": 7}, {}, "'handler' must be text"),
        ({"modelName": "m"}, {}, "'handler' must name"),
        ({**MODEL, "envelope": "json"}, {}, "envelope"),
        ({**MODEL, "configFile": "gone.yaml"}, {}, "gone.yaml cannot be read"),
        (MODEL, {"runtime": "LSP"}, "only Python"),
        ([], {}, "must hold an object"),
    ],
)
def test_manifests_that_cannot_be_honoured_are_refused(
    model: Any, top: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    assert reason in refused(pack(tmp_path / "m.mar", model, **top))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (b"- a\n- b\n", "must hold names and values"),
        (b"a: [", "cannot be read as YAML"),
        (b"!!python/object/apply:os.system ['true']", "cannot be read as YAML"),
        (b"batchSize: many", "batchSize must be a whole number"),
        (b"batchSize: true", "batchSize must be a whole number"),
        (b"maxBatchDelay: -1", "maxBatchDelay must be"),
    ],
)
def test_a_config_that_is_wrong_is_refused(config: bytes, reason: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "m.mar", {**MODEL, "configFile": "c.yaml"}, {"c.yaml": config})
    assert reason in refused(path)


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.mar", "w") as packed:
        packed.writestr("x", b"")
    with pytest.raises(BrokenArtifact, match="has no MAR-INF"):
        peek(tmp_path / "a.mar")
    whole = pack(tmp_path / "b.mar", files={"weights": os.urandom(1000)}).read_bytes()
    for end in (0, 10, len(whole) // 2, len(whole) - 5):
        (tmp_path / "c.mar").write_bytes(whole[:end])
        assert "cannot be read" in refused(tmp_path / "c.mar")
    damaged = bytearray(whole)
    at = damaged.index(b"weights") + 500
    damaged[at : at + 4] = b"\0\0\0\0"
    (tmp_path / "d.mar").write_bytes(damaged)
    assert "cannot be" in refused(tmp_path / "d.mar")
