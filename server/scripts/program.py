"""A program: a model's script with everything that it needs, loaded, and ready to answer calls.

It is the same in the server's own process and in a worker.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import VERSION
from ..artifact import Artifact
from ..errors import ModelFailed
from . import script, service, tensorflow
from .call import Answer, Call
from .functions import Functions, Surroundings
from .network import Network
from .script import Script
from .tensorflow import TensorFlow


@dataclass(frozen=True, slots=True)
class Plan:
    """How to load a script. ``attribute``: what of it is the handler, empty: found by its shape. ``network``: whether
    the artifact holds a model, which stands in for what the script leaves out. ``shims``: see
    :func:`server.scripts.script.show_shims`. ``batch_size``: the most calls in one run, 0: as the script likes.
    ``installed``: a folder with what its ``requirements.txt`` asked for."""

    path: Path
    attribute: str = ""
    network: bool = False
    shims: str = "missing"
    threads: int = 1
    batch_size: int = 0
    installed: str = ""


class Program:
    """A loaded script. Calls may come from several threads at once: whether that is safe is the script's affair."""

    def __init__(self, artifact: Artifact, plan: Plan) -> None:
        """Raises BrokenArtifact, with the reason, and gives back what was begun."""
        name = artifact.manifest.name
        script.show_shims(plan.shims)
        if plan.installed and plan.installed not in sys.path:
            sys.path.append(plan.installed)
        self._network: Network | None = None
        self._script = Script(plan.path, name)
        try:
            with self._script.visible():
                surroundings = Surroundings(name, str(artifact.root), VERSION, plan.batch_size)
                found = service.entry(self._script.module, plan.attribute)
                if found is not None:
                    self._answers: Functions | service.Service | TensorFlow = service.Service(found, surroundings)
                elif tensorflow.speaks(self._script.module):
                    if plan.network and tensorflow.wants_model(self._script.module):
                        self._network = Network.open(artifact, plan.threads)
                    self._answers = TensorFlow(self._script.module, surroundings, self._network)
                else:
                    if plan.network and not hasattr(self._script.module, "model_fn"):
                        self._network = Network.open(artifact, plan.threads)
                    self._answers = Functions(self._script.module, surroundings, self._network)
        except BaseException:
            self.close()
            raise

    @property
    def most_calls(self) -> int:
        """The most calls that may share a run."""
        return self._answers.most_calls

    def answer(self, calls: Sequence[Call]) -> list[Answer]:
        """One answer for each call, in their order. Raises what happened to several calls together."""
        return self._answers.answer(calls)

    def close(self) -> None:
        """Forget the script and its model."""
        self._script.close()
        self._answers = _Gone()  # type: ignore[assignment]
        if self._network is not None:
            self._network.close()


class _Gone:
    most_calls = 1

    def answer(self, calls: Sequence[Call]) -> list[Answer]:  # noqa: ARG002
        raise ModelFailed("this model has been unloaded")
