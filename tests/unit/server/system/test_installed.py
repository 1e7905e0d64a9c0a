"""The installed libraries: found whichever wheel brought them."""

from __future__ import annotations

from importlib import metadata

import numpy as np
import pytest

from server.system import installed


def test_a_library_is_found_under_the_wheel_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_for_gpus(name: str) -> str:
        if name == "onnxruntime-gpu":
            return "1.31.1"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", only_for_gpus)
    assert installed.version("onnxruntime") == "1.31.1"


def test_a_library_without_a_wheel_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", none)
    assert installed.version("numpy") == np.__version__


def test_what_is_not_installed_has_no_version() -> None:
    assert installed.version("no-such-library") is None
