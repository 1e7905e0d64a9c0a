"""The proof that rows are independent: distinct real rows alone, together, among others, at other places and cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from server.backends import Session
from server.backends.independence import CONSTANT, ROWS, Independence, prove, prove_synthetic
from server.errors import SlipwayError
from server.tensors import Array

from ..passes import running
from .dataset import ROWS_FIRST, Dataset

LOOKED_AT = 64
"""Rows among which those with different outputs are looked for."""


def prove_file(path: Path, data: Dataset) -> Independence:
    """Prove or refute that the rows of a model file are independent, on rows of ``data`` with different outputs.

    Where all real rows have the same outputs, synthetic rows are tried.
    """
    if data.layout != ROWS_FIRST or data.shared:
        return Independence(False, "the rows are not on axis 0 of every input")
    session = running.open_session(path)
    try:
        if not session.spec.batchable:
            return Independence(False, "the inputs and outputs have no common batch axis")
        found = prove(session.run, session.spec, _distinct(session, data))
        return prove_synthetic(session.run, session.spec) if found.reason == CONSTANT else found
    finally:
        session.close()


def _distinct(session: Session, data: Dataset) -> list[Array]:
    """Up to ``ROWS`` rows, those with different outputs first, in the order of the session's inputs."""
    rows = data.batch(min(LOOKED_AT, data.rows))
    inputs = [rows[spec.name] for spec in session.spec.inputs]
    chosen: dict[bytes, int] = {}
    for at in range(len(inputs[0])):
        try:
            answer = session.run([array[at : at + 1] for array in inputs])
        except SlipwayError:
            continue
        chosen.setdefault(b"".join(np.asarray(array).tobytes() for array in answer), at)
        if len(chosen) == ROWS:
            break
    places = list(chosen.values())
    places += [at for at in range(len(inputs[0])) if at not in places][: ROWS - len(places)]
    return [array[sorted(places)] for array in inputs]
