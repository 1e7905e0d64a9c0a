"""Sent models: they replace what is served, hold their files, and give way to the folder again."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.errors import BrokenArtifact, UnknownModel
from server.models.changes import Changes
from server.models.follower import Follower
from server.models.state import follow, state_of
from server.settings.options import Settings
from server.temporary_folder import SentFolder
from tests.fake_models import FakeLoader, fake_models, version_folder


class Process:
    """One process of a server that follows a folder."""

    def __init__(self, root: Path) -> None:
        settings = Settings(model=str(root))
        self.models, _ = fake_models(FakeLoader(), settings)
        self.follower = Follower(self.models, settings)
        self.changes = Changes(self.models, self.follower)

    async def send(self, name: str, *files: str, config: str = "") -> Path:
        """As the load call does it."""
        folder = SentFolder()
        (folder.path / "config.pbtxt").write_text(config)
        for file in files:
            (folder.path / file).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / file).write_bytes(b"")
        try:
            await self.changes.make("load_sent", name=name, path=str(folder.path))
        finally:
            folder.remove()
        return folder.path


async def test_sent_versions_replace_all_others_until_the_model_is_loaded_from_the_folder(tmp_path: Path) -> None:
    version_folder(tmp_path, "m", "2")
    one = Process(tmp_path)
    await one.follower.load_all()
    sent = await one.send("m", "1/model.onnx", "3/model.onnx", config="version_policy { all { } }")
    assert one.models.versions("m") == ["1", "3"]
    await one.follower.refresh()
    assert one.models.versions("m") == ["1", "3"]
    again = await one.send("m", "1/model.onnx", "3/model.onnx")
    assert (one.models.versions("m"), sent.exists(), again.exists()) == (["3"], False, True)
    await one.changes.make("load_newest", name="m")
    assert (one.models.versions("m"), again.exists()) == (["2"], False)
    await one.send("m", "3/model.onnx")
    version_folder(tmp_path, "m", "2", b"changed")
    await one.follower.refresh()
    assert one.models.versions("m") == ["2"]
    await one.models.close()


async def test_a_name_that_the_folder_does_not_have_can_be_sent_and_unloaded(tmp_path: Path) -> None:
    version_folder(tmp_path, "m", "1")
    one = Process(tmp_path)
    sent = await one.send("new", "7/model.onnx")
    assert (one.models.versions("new"), one.models.get("new").artifact.root) == (["7"], sent / "7")
    await one.changes.make("unload", name="new")
    assert not sent.exists()
    with pytest.raises(UnknownModel):
        await one.changes.make("load_newest", name="new")
    await one.models.close()


@pytest.mark.parametrize(
    ("file", "config", "reason"),
    [
        ("1/model.onnx", "version_policy { specific { versions: 2 } }", "none of the sent versions"),
        ("1/model.onnx", "backend: 'python'", "cannot be run here"),
        ("1/code/inference.py", "", "1 has no model.onnx|can be sent"),
        ("1/model.plan", "", "can be sent"),
        ("1/pipeline.json", "", "pipeline.json"),
    ],
)
async def test_what_cannot_be_served_leaves_no_file_and_the_model_as_it_was(
    file: str, config: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    version_folder(tmp_path / "models", "m", "1")
    one = Process(tmp_path / "models")
    await one.follower.load_all()
    with pytest.raises(BrokenArtifact, match=reason) as caught:
        await one.send("m", file, config=config)
    assert str(temporary) not in str(caught.value)
    del caught
    assert (one.models.versions("m"), [*temporary.iterdir()]) == (["1"], [])
    await one.models.close()


async def test_each_process_holds_the_files_and_the_last_one_removes_them(tmp_path: Path) -> None:
    version_folder(tmp_path, "m", "1")
    one, other = Process(tmp_path), Process(tmp_path)
    sent = await one.send("m", "1/model.onnx")
    await follow(other.models, other.follower, state_of(one.models, one.follower))
    assert other.models.get("m").artifact.root == sent / "1"
    await one.changes.make("unload", name="m")
    assert sent.exists()
    await follow(other.models, other.follower, state_of(one.models, one.follower))
    assert not sent.exists()
    for process in (one, other):
        await process.models.close()
