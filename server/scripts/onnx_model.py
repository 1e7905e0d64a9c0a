"""The ONNX model beside a script: the script's default model, run for several calls at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..artifact import Artifact
from ..backends import BackendOptions, Session, backend_for, loader
from ..backends.device_session import DeviceSession
from ..backends.independence import HALF, prove_synthetic
from ..errors import MalformedInput
from ..tensors import Array, ModelSpec, describe_shape


def independent_rows(artifact: Artifact) -> bool | None:
    """Whether the rows of a model are declared to be independent; None where nothing declares it."""
    if artifact.declaration.max_batch_size == 0:
        return False
    return artifact.manifest.batching.independent if artifact.manifest.batching is not None else None


class OnnxModel:
    """The ``model`` argument of ``predict_fn`` if the script has no ``model_fn``.

    ``predict(data)`` takes an array (for a model of one input) or a dictionary of arrays by input name. It returns an
    array (for a model of one output) or a dictionary by output name. ``session`` is the backend session.
    ``independent``: whether rows of several calls may share a run; None: shown before the first time.
    """

    def __init__(self, session: Session, independent: bool | None = True) -> None:
        self.session = session
        self._independent = independent
        self._most_rows = self._closed_rows(session) if isinstance(session, DeviceSession) else 0

    @classmethod
    def open(cls, artifact: Artifact, threads: int, gpu: int = 0, gpu_bytes: int = 0) -> OnnxModel:
        """Load the artifact's model with this number of intra-op threads, on the device and in the closed shapes of its
        manifest. ``gpu``: the ordinal of the GPU; ``gpu_bytes``: most device memory, 0 for what is free. Raises
        BrokenArtifact.
        """
        manifest = artifact.manifest
        options = BackendOptions(
            threads,
            optimized=manifest.optimized,
            target=manifest.device,
            ordinals=(gpu,),
            shapes=manifest.shapes,
            padding=manifest.padding,
            memory_bytes=gpu_bytes,
            spec=manifest.spec if manifest.spec.inputs else None,
        )
        session = loader(backend_for(manifest.backend, options.device))(artifact.model_path, options)
        return cls(session, independent_rows(artifact))

    @property
    def spec(self) -> ModelSpec:
        return self.session.spec

    def predict(self, data: Any) -> Any:
        """Run the model once. Raises MalformedInput if the data do not fit its inputs, or the backend's error."""
        return self._named(self._run(self._arrays(data)))

    def predict_all(self, inputs: Sequence[Any]) -> list[Any]:
        """One prediction for each input; inputs of equal row shapes share a run if rows are independent.

        One bad input raises for all.
        """
        every = [self._arrays(data) for data in inputs]
        if len(every) == 1 or not self._rows_are_independent():
            return [self._named(self._run(arrays)) for arrays in every]
        groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for index, arrays in enumerate(every):
            groups.setdefault(tuple(array.shape[1:] for array in arrays), []).append(index)
        results: list[Any] = [None] * len(every)
        for members in groups.values():
            counts = [len(every[index][0]) for index in members]
            joined = [np.concatenate(parts) for parts in zip(*(every[index] for index in members), strict=True)]
            outputs = self._run(joined)
            if any(array.shape[:1] != (sum(counts),) for array in outputs):
                for index in members:
                    results[index] = self._named(self._run(every[index]))
                continue
            start = 0
            for index, count in zip(members, counts, strict=True):
                results[index] = self._named([array[start : start + count] for array in outputs])
                start += count
        return results

    def _closed_rows(self, session: DeviceSession) -> int:
        """The most rows that run at once on a GPU; 0: any number, because rows that depend on each other are neither
        added nor cut."""
        most = max(session.closed_rows, default=0)
        if most and self._independent is None:
            self._independent = prove_synthetic(session.run, session.spec, most_rows=most, tolerance=HALF).independent
        if most and not self._independent:
            session.keep_rows()
            return 0
        return most

    def _run(self, arrays: list[Array]) -> list[Array]:
        """One run, or several where the GPU takes fewer rows at once."""
        most = self._most_rows
        if not most or len(arrays[0]) <= most:
            return self.session.run(arrays)
        starts = range(0, len(arrays[0]), most)
        parts = [self.session.run([array[start : start + most] for array in arrays]) for start in starts]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _rows_are_independent(self) -> bool:
        if self._independent is None:
            spec = self.spec
            self._independent = spec.batchable and prove_synthetic(self.session.run, spec).independent
        return self._independent

    def close(self) -> None:
        self.session.close()

    def _arrays(self, data: Any) -> list[Array]:
        inputs = self.spec.inputs
        if isinstance(data, Mapping):
            lacking = [one.name for one in inputs if one.name not in data]
            if lacking:
                raise MalformedInput(f"the input {lacking[0]!r} of the model is missing")
            values = [data[one.name] for one in inputs]
        elif len(inputs) == 1:
            values = [data]
        else:
            names = ", ".join(one.name for one in inputs)
            raise MalformedInput(f"the model has several inputs ({names}); pass a dictionary of arrays by input name")
        arrays = []
        for value, one in zip(values, inputs, strict=True):
            try:
                array = _texts(value) if one.dtype.numpy.kind == "O" else _numbers(value, one.dtype.numpy)
            except (TypeError, ValueError) as error:
                raise MalformedInput(f"the input {one.name!r} must hold values of {one.dtype.name}") from error
            if array.ndim == len(one.shape) - 1 and self.spec.batchable:
                array = array[np.newaxis]
            if not one.accepts(array.shape):
                wanted, got = describe_shape(one.shape), describe_shape(array.shape)
                raise MalformedInput(f"the input {one.name!r} must have the shape {wanted}, it has {got}")
            arrays.append(array)
        return arrays

    def _named(self, outputs: list[Array]) -> Any:
        if len(outputs) == 1:
            return outputs[0]
        return {one.name: array for one, array in zip(self.spec.outputs, outputs, strict=True)}


def _numbers(value: Any, dtype: np.dtype[Any]) -> Array:
    """A value as an array of numbers. Raises TypeError or ValueError for text and None, which numpy would convert."""
    raw = np.asarray(value)
    if raw.dtype.kind in "OUS":
        raise TypeError("not numbers")
    return np.asarray(raw, dtype, order="C")


def _texts(value: Any) -> Array:
    """A value as an object array of str; bytes are read as UTF-8. Raises TypeError or ValueError for other values."""
    array = np.array(value, object)
    if isinstance(value, np.ndarray) and value.dtype.kind in "SU":
        array = value.astype(object)
    flat = [one.decode() if isinstance(one, bytes) else one for one in array.reshape(-1)]
    if not all(isinstance(one, str) for one in flat):
        raise TypeError("not texts")
    texts = np.empty(len(flat), object)
    texts[:] = flat
    return texts.reshape(array.shape)
