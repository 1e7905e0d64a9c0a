"""Models without models: a loader that is held and released by hand, and a scheduler that answers when it is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from server.artifact import Artifact
from server.errors import NotReady, SlipwayError
from server.models import Models, ServedModel
from server.models.load import Loader
from server.observe.metrics import Metrics, ModelMetrics
from server.request import Head, InferRequest
from server.scheduling.scheduler import Scheduler
from server.settings.options import Settings
from server.system.memory import Budget
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec

PLAIN = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, 4)),), (TensorSpec("y", BY_NAME["FP32"], (-1, 4)),))
MB = 1_000_000


class FakeScheduler:
    """Keeps what is submitted until :meth:`serve`."""

    def __init__(self, session: FakeSession) -> None:
        self.waiting: list[InferRequest] = []
        self.full: SlipwayError | None = None
        self.stopped = False
        self._session = session

    @property
    def waiting_rows(self) -> int:
        return sum(request.rows for request in self.waiting)

    def submit(self, request: InferRequest, shape: object = None) -> None:
        if self.stopped:
            raise NotReady("the model is being unloaded")
        if self.full is not None:
            raise self.full
        self.waiting.append(request)

    def serve(self, error: SlipwayError | None = None) -> None:
        """Answer all that waits."""
        waiting, self.waiting = self.waiting, []
        for request in waiting:
            request.error = error
            request.outputs = None if error else self._session.run(request.arrays)
            request.done(request)

    def stop(self, _patience_s: float | None = None) -> bool:
        self.stopped = True
        return True

    def fail(self, error: SlipwayError) -> None:
        self.serve(error)

    def abandon(self) -> None:
        self.serve(NotReady("the model was unloaded before the request could run"))


class FakeSession:
    """Multiplies by ``factor``."""

    def __init__(self, spec: ModelSpec = PLAIN, factor: float = 2.0) -> None:
        self.spec = spec
        self.factor = factor
        self.closed = 0

    def run(self, batch: Sequence[Array]) -> list[Array]:
        return [batch[0] * np.float32(self.factor)]

    def close(self) -> None:
        self.closed += 1


class FakeLoader(Loader):
    """Builds at once, unless it is held; remembers what it has built and counts the memory that it pretends to take."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self.built: list[ServedModel] = []
        self.error: BaseException | None = None
        self.spec = PLAIN
        self.takes_bytes = 0
        self.taken_bytes = 0
        self._open = threading.Event()
        self._open.set()
        self.begun = threading.Event()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def resident(self) -> int:
        """What the process takes: what was built and is not closed."""
        return sum(self.takes_bytes for model in self.built if not session_of(model).closed)

    def build(self, artifact: Artifact, loop: asyncio.AbstractEventLoop) -> ServedModel:
        self.begun.set()
        assert self._open.wait(30)
        if self.error is not None:
            raise self.error
        session = FakeSession(self.spec)
        manifest = artifact.manifest
        model = ServedModel(
            name=manifest.name,
            version=manifest.version,
            spec=session.spec,
            artifact=artifact,
            session=session,
            scheduler=cast(Scheduler, FakeScheduler(session)),
            metrics=ModelMetrics(manifest.name, manifest.version),
            max_batch_size=8,
            fixed_shapes=True,
            independent=True,
            padding=None,
            cache=None,
            deadline_ns=0,
        )
        self.built.append(model)
        return model


def session_of(model: ServedModel) -> FakeSession:
    return cast(FakeSession, model.session)


def scheduler_of(model: ServedModel) -> FakeScheduler:
    return cast(FakeScheduler, cast(object, model.scheduler))


def fake_models(
    loader: FakeLoader, settings: Settings | None = None, budget_mb: int | None = None
) -> tuple[Models, Metrics]:
    metrics = Metrics(lambda: True, "1")
    budget = Budget(None if budget_mb is None else budget_mb * MB, loader.resident)
    return Models(settings or Settings(), metrics, loader, budget), metrics


def version_folder(root: Path, name: str, version: str, content: bytes = b"") -> Path:
    """``NAME/VERSION/model.onnx``, which only a fake loader can load."""
    folder = root / name / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    return folder


def head(request_id: bytes = b"") -> Head:
    return Head(b"POST", b"/", [(b"x-request-id", request_id)] if request_id else [])


class Asked:
    """A request and every answer that it got."""

    def __init__(self, value: float = 1.0) -> None:
        self.ended: list[InferRequest] = []
        self.request = InferRequest((np.full((1, 4), value, np.float32),), 1, self.ended.append)

    def submit(self, model: ServedModel) -> Asked:
        model.submit(self.request)
        if model.watch is not None:
            model.watch(self.request)
        return self

    @property
    def answer(self) -> float:
        (one,) = self.ended
        assert one.error is None
        assert one.outputs is not None
        return float(one.outputs[0][0, 0])
