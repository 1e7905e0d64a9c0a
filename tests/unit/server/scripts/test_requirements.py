"""What a script's requirements.txt lacks here."""

from __future__ import annotations

import logging
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from server.errors import BrokenArtifact
from server.scripts.requirements import check_requirements, installable, missing_requirements


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


@pytest.fixture
def gpu_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which other wheels bring the modules than the usual ones."""
    wheels = {"onnxruntime-gpu": "1.31.1", "opencv-python-headless": "5.0", "numpy": "2.0"}

    def version(name: str) -> str:
        if name in wheels:
            return wheels[name]
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)


@pytest.mark.usefixtures("gpu_image")
def test_a_module_is_there_whichever_wheel_brought_it() -> None:
    text = "onnxruntime>=1.20\nONNXRuntime_GPU\nopencv-python\nonnxruntime==1.2\nfaiss-cpu\n"
    assert missing_requirements(text) == ["onnxruntime==1.2 (1.31.1 is installed)", "faiss-cpu"]


@pytest.mark.usefixtures("gpu_image")
def test_no_second_wheel_of_a_module_is_installed() -> None:
    lines = [
        *(
            "onnxruntime==1.2 \\",
            "  --hash=sha256:00",
            "OpenCV.python[x] ; a",
            "onnxruntime_gpu",
            "numpy==2.1",
            "faiss-cpu",
        ),
        *("-r more.txt", "--constraint=sub/c.txt", "-r https://somewhere/x.txt", "--no-index", "# a comment"),
    ]
    assert installable("\n".join(lines), Path("/code")).splitlines() == [
        *("onnxruntime_gpu", "numpy==2.1", "faiss-cpu", "-r /code/more.txt", "--constraint /code/sub/c.txt"),
        *("-r https://somewhere/x.txt", "--no-index", "# a comment"),
    ]


def test_the_files_that_the_requirements_name_are_found(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("no-such-thing==1\n--no-index\n-r more.txt\n")
    (tmp_path / "more.txt").write_text("no-such-other-thing==1\n")
    with pytest.raises(BrokenArtifact, match="no-such"):
        check_requirements(tmp_path, install=True)
