"""The environments: one virtual environment for each peer, below a cache folder, made when asked."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .peer import Peer

DEFAULT_CACHE = Path.home() / ".cache" / "slipway" / "peers"
STAMP = "slipway-lock.sha256"
INSTALL_WITHIN_S = 1800.0
LAST_WORDS = 400


class Missing(Exception):
    """A peer cannot be used here; the message is the reason, and what to do about it."""


def python_of(peer: Peer, cache: Path, install: bool, say: Callable[[str], None]) -> Path:
    """The interpreter of the peer's environment. Raises Missing.

    ``install``: make the environment when it is not there, or was made from other requirements.
    """
    for program in peer.needs:
        if shutil.which(program) is None:
            raise Missing(f"it needs {program}, which is not installed")
    if peer.lock is None:
        return Path(sys.executable)
    folder = cache / peer.name
    python, stamp = folder / "bin" / "python", folder / STAMP
    wanted = digest(peer.lock)
    if stamp.is_file() and stamp.read_text(encoding="ascii") == wanted and python.is_file():
        return python
    if not install:
        state = "was made from other requirements" if folder.exists() else "is not installed"
        raise Missing(f"its environment {state}: run peers with --install")
    say(f"installing {peer.title} into {folder}")
    _make(folder, peer.lock)
    stamp.write_text(wanted, encoding="ascii")
    return python


def digest(lock: Path) -> str:
    """Of the requirements and of the interpreter's version: what an environment is made from."""
    version = f"python {sys.version_info[0]}.{sys.version_info[1]}\n"
    return hashlib.sha256(version.encode() + lock.read_bytes()).hexdigest()


def version(peer: Peer) -> str | None:
    """The pinned version of the peer's package; None for what has no lock."""
    if peer.lock is None or peer.package is None:
        return None
    pins = (line.partition("==") for line in peer.lock.read_text(encoding="utf-8").splitlines())
    return next((pin for name, _, pin in pins if name.lower() == peer.package.lower()), None)


def _make(folder: Path, lock: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    # Wheels only: nothing is compiled, and no package's own code runs while it is installed.
    _run([*pip, "--quiet", "--only-binary", ":all:", "--no-deps", "-r", str(lock)])


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"its environment could not be made: {error}") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
        raise Missing(f"its environment could not be made: {' '.join(errors)[-LAST_WORDS:]}")
