"""Graphs of unusual signatures in one real server: each answers over the Open Inference Protocol as its graph does."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from server.backends import BackendOptions, loader
from server.backends.synthetic import make_inputs
from server.tensors import Array, ModelSpec
from tests import onnx_graphs
from tests.integration.server_process import ServerProcess, server_process
from tests.onnx_graphs import DEPENDENT, INDEPENDENT

GRAPHS = {
    **INDEPENDENT,
    **DEPENDENT,
    "fixed_1": onnx_graphs.fixed(1),
    "fixed_3": onnx_graphs.fixed(3),
}
RANDOM = ("noise",)
"""Graphs without an answer to compare with."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    for name, build in GRAPHS.items():
        onnx_graphs.save(build, root / name / "1" / "model.onnx")
    return root


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server"), repository, "--max-queue-ms", "60000") as server:
        yield server.ready()


def inputs_of(path: Path) -> tuple[ModelSpec, list[list[Array]]]:
    """Requests of several sizes."""
    session = loader("onnxruntime")(path, BackendOptions())
    spec = session.spec
    session.close()
    size = 240_000 if path.parent.parent.name == "long_rows" else 64 if path.parent.parent.name == "convolution" else 8
    rows = (1, 2) if size > 64 else (1, 2, 5)
    if spec.batchable:
        return spec, [make_inputs(spec, count, size, seed=count) for count in rows]
    return spec, [make_inputs(spec, 1, count, seed=count) for count in (8, 5, 3)]


def document(spec: ModelSpec, arrays: list[Array]) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": one.name, "shape": list(array.shape), "datatype": one.dtype.name, "data": array.ravel().tolist()}
            for one, array in zip(spec.inputs, arrays, strict=True)
        ]
    }


@pytest.mark.parametrize("name", [name for name in GRAPHS if name not in RANDOM])
def test_every_graph_answers_alone_and_beside_others(name: str, server: ServerProcess, repository: Path) -> None:
    path = repository / name / "1" / "model.onnx"
    spec, asked = inputs_of(path)
    session = ort.InferenceSession(str(path))
    names = [one.name for one in session.get_inputs()]
    with ThreadPoolExecutor(8) as pool:
        bodies = [document(spec, arrays) for arrays in asked]
        answers = list(pool.map(lambda body: server.post(f"/v2/models/{name}/infer", body), bodies * 4))
    for index, answer in enumerate(answers):
        assert answer.status == 200, answer.body
        wanted = session.run(None, dict(zip(names, asked[index % len(asked)], strict=True)))
        for output, array in zip(answer.json()["outputs"], wanted, strict=True):
            assert tuple(output["shape"]) == array.shape
            np.testing.assert_allclose(np.array(output["data"], array.dtype), array.ravel(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "rows"), [("fixed_1", 1), ("fixed_1", 2), ("fixed_1", 7), ("fixed_3", 3)])
def test_a_batch_of_one_takes_any_number_of_rows_and_a_larger_one_its_own(
    name: str, rows: int, server: ServerProcess
) -> None:
    x = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    answer = server.post(f"/v2/models/{name}/infer", {"inputs": [tensor("x", x)]})
    assert answer.status == 200, answer.body
    np.testing.assert_allclose(answer.json()["outputs"][0]["data"], (x @ onnx_graphs.W43).ravel(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 4, 6])
def test_other_rows_than_those_of_a_fixed_batch_are_refused_with_the_shape(rows: int, server: ServerProcess) -> None:
    answer = server.post("/v2/models/fixed_3/infer", {"inputs": [tensor("x", np.ones((rows, 4), np.float32))]})
    assert (answer.status, answer.code) == (400, "malformed_input")
    assert "[3, 4]" in answer.json()["error"]


def tensor(name: str, array: Array) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": "FP32", "data": array.ravel().tolist()}


def test_the_metadata_and_the_admin_api_say_why_requests_do_not_share_runs(server: ServerProcess) -> None:
    shared = server.get("/v2/models/perceptron").json()
    assert "parameters" not in shared
    alone = server.get("/v2/models/softmax_over_rows").json()
    assert alone["parameters"]["independent_rows"] is False
    assert "output 'y'" in alone["parameters"]["batching_reason"]
    (version,) = server.get("/admin/models/running_sum").json()["versions"]
    assert version["independent_rows"] is False
    assert version["batching_reason"]
    assert server.get("/v2/models/tree").json()["inputs"][0]["parameters"] == {"missing": True}


@pytest.mark.parametrize(
    ("build", "strategy"), [(onnx_graphs.perceptron, "MULTI_RECORD"), (onnx_graphs.running_sum, "SINGLE_RECORD")]
)
def test_a_batch_transform_is_advised_not_to_mix_dependent_records(
    build: onnx_graphs.Build, strategy: str, tmp_path: Path
) -> None:
    model = onnx_graphs.save(build, tmp_path / "model.onnx")
    with server_process(tmp_path / "server", model) as server:
        assert server.ready().get("/execution-parameters").json()["BatchStrategy"] == strategy
