"""What a script's requirements.txt lacks here."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from server.errors import BrokenArtifact
from server.scripts.requirements import check_requirements, missing_requirements


def test_what_is_not_installed_or_of_another_version_is_missing() -> None:
    text = f"# a comment\nnumpy=={np.__version__}\nnumpy>=1\nNumPy\n-r other.txt\nno-such-thing[x]>=2\nnumpy==0.1 ; x\n"
    assert missing_requirements(text) == ["no-such-thing", f"numpy==0.1 ({np.__version__} is installed)"]


def test_it_is_reported_and_not_installed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert check_requirements(tmp_path, install=True) == ""
    (tmp_path / "requirements.txt").write_text("no-such-thing==1\n")
    assert check_requirements(tmp_path, install=False) == ""
    assert "no-such-thing==1" in caplog.text
    assert "--script-install" in caplog.text


def test_an_installation_that_fails_says_so(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("no-such-thing==1\n--no-index\n")
    with pytest.raises(BrokenArtifact, match="could not be installed"):
        check_requirements(tmp_path, install=True)
