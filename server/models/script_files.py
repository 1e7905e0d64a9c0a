"""Script files: which script serves a model's folder. Blocking file access; nothing is imported or run."""

from __future__ import annotations

from pathlib import Path

from ..artifact import SCRIPT, Artifact, Manifest
from ..errors import BrokenArtifact
from ..scripts.call import SPEC
from ..scripts.script_module import find_script, script_in_folder
from ..settings.options import Settings


def program_of(settings: Settings) -> tuple[str, str]:
    """The file name of the script, and the attribute in it that answers (empty: found by its shape)."""
    module, _, attribute = settings.script_handler.partition(":")
    if not module:
        return settings.script_program, attribute
    return (module if module.endswith(".py") else module + ".py"), attribute


def script_in(root: Path, settings: Settings) -> Path | None:
    """The script inside a model's folder; None where there is none."""
    return script_in_folder(root, program_of(settings)[0])


def script_of(root: Path, settings: Settings) -> Path | None:
    """The script that serves a model, wherever it lies; None where there is none.

    Raises BrokenArtifact when the model has a script and scripts are switched off: without its script a model gives
    other answers.
    """
    if settings.scripts:
        return find_script(root, program_of(settings)[0], settings.script_directory)
    own = script_in(root, settings)
    if own is not None:
        raise BrokenArtifact(
            f"{root.name or 'the model'} contains the script {own.name}, and --no-scripts forbids scripts: remove the "
            "script, or start without --no-scripts"
        )
    return None


def script_artifact(root: Path, path: Path) -> Artifact:
    """The artifact of a folder that holds a script and no model that the server knows."""
    inside = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    return Artifact(root, Manifest(root.name or "model", "1", SCRIPT, inside, SPEC), declared=False)
