"""``container.deploy --engine local`` with an image: the container of a host that was killed is found and removed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from container.deploy.__main__ import main
from container.deploy.local import state
from container.local.container import labelled
from tests.container.conftest import Perceptron
from tests.integration.local_engine import Machine
from tests.integration.server_process import eventually

pytestmark = pytest.mark.container


def test_a_killed_host_leaves_a_container_that_up_removes(
    tmp_path: Path, image: str, perceptron: Perceptron, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # the container may run as any user
    monkeypatch.chdir(tmp_path)
    machine = Machine(tmp_path)
    flags = ("--local-image", image, "--name", "digits")
    try:
        assert machine.run("push", perceptron.directory, *flags)[0].startswith(f"nothing  image {image}")
        machine.up(perceptron.directory, *flags)
        assert "predictions" in machine.answer()
        (first,) = labelled(machine.folder.label)
        os.kill(state.holder(machine.folder) or 0, signal.SIGKILL)
        eventually(lambda: not state.running(machine.folder), "the host ends")
        assert machine.status()["orphans"] == [first]
        machine.up(perceptron.directory, *flags)
        (second,) = labelled(machine.folder.label)
        assert second != first
        assert "predictions" in machine.answer()
        machine.run("canary", perceptron.directory, *machine.environment, "--name", "digits", code=2)
        os.kill(state.holder(machine.folder) or 0, signal.SIGKILL)
        eventually(lambda: not state.running(machine.folder), "the host ends")
        machine.run("down", "digits")
        assert labelled(machine.folder.label) == []
    finally:
        main(["down", "digits", *machine.flags], say=lambda _: None)
    machine.left(0)
