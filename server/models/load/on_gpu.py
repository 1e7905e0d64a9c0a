"""The part of a model that is on GPUs: what scheduler and metrics are told of its session."""

from __future__ import annotations

from collections.abc import Sequence

from ...backends import Session
from ...backends.device_session import DeviceSession
from ...backends.independence import Independence
from ...backends.open_shapes import OpenShapes
from ...scheduling.run import Join
from .declared import DeclaredSession
from .single_row import SingleRowSession

GpuSession = DeviceSession | OpenShapes


def on_gpu(session: Session) -> GpuSession | None:
    """The session on GPUs, also below what gives it other rows or tensors; None for a model of the CPU."""
    while isinstance(session, (SingleRowSession, DeclaredSession)):
        session = session.session
    return session if isinstance(session, (DeviceSession, OpenShapes)) else None


def fit_rows(session: Session, rows: Independence, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Add no rows to batches whose rows depend on each other. Returns the batch sizes for which the GPU has memory, all
    of them on the CPU."""
    gpu = on_gpu(session)
    if gpu is None:
        return sizes
    most = max(gpu.closed_rows, default=max(sizes))
    if not rows.independent and session.spec.batchable:
        gpu.keep_rows()
    return tuple(size for size in sizes if size <= most) or (most,)


def closed_rows(session: Session) -> Sequence[int]:
    """The only numbers of rows that a session runs; empty where it runs all."""
    gpu = on_gpu(session)
    return gpu.closed_rows if gpu is not None else ()


def joined_by(session: Session) -> Join | None:
    """What joins the requests of a batch, where the session does that itself, for the tensors that clients send."""
    return session.join if isinstance(session, DeviceSession) and session.joins else None
