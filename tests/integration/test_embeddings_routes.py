"""Embeddings over the socket: OpenAI's route by OpenAI's client, and the routes of text-embeddings-inference."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.conftest import Serve
from tests.integration.server_process import Answer, ServerProcess, server_process
from tests.integration.test_pipelines_over_sockets import WORDS, text_pipeline, vector_of

pytest.importorskip("tokenizers", reason="the extra 'text' is not installed")

OPENAI, TEI = "/v1/embeddings", "/embed"
MOST = 8
"""Tokens that the model takes."""


def pipeline(root: Path, *, normalize: bool = False, dimensions: list[int] | None = None) -> Path:
    """The pipeline of words, which takes at most ``MOST`` tokens."""
    text_pipeline(root, max_length=MOST)
    path = root / "pipeline.json"
    declared = json.loads(path.read_text("utf-8"))
    declared["steps"][-1]["normalize"] = normalize
    path.write_text(json.dumps({**declared, "dimensions": dimensions or []}), "utf-8")
    return root


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("words")
    with server_process(directory, pipeline(directory / "words", dimensions=[2]), "--max-body-mb", "2") as server:
        yield server.ready()


@pytest.fixture(scope="module")
def client(words: ServerProcess) -> Iterator[Any]:
    openai = pytest.importorskip("openai", reason="the extra 'dev' is not installed")
    with openai.OpenAI(base_url=f"http://127.0.0.1:{words.port}/v1", api_key="none", max_retries=0) as one:
        yield one


def ids(text: str) -> list[int]:
    return [WORDS.index(word) for word in text.split()]


def asked(server: ServerProcess, given: Any, **more: Any) -> Answer:
    return server.post(OPENAI, {"model": "words", "input": given, **more})


@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_the_client_of_openai_gets_vectors_and_usage(client: Any, form: dict[str, Any]) -> None:
    answer = client.embeddings.create(model="words", input=["a cat sits", "mat"], **form)
    assert (answer.object, answer.model) == ("list", "words")
    assert [one.index for one in answer.data] == [0, 1]
    vectors = [one.embedding for one in answer.data]
    if form.get("encoding_format") == "base64":
        vectors = [np.frombuffer(base64.b64decode(one), "<f4") for one in vectors]
    np.testing.assert_allclose(vectors, [vector_of("a cat sits"), vector_of("mat")], rtol=1e-6)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (4, 4)


@pytest.mark.parametrize("given", ["a cat", ["a cat"], ids("a cat"), [ids("a cat")]])
def test_texts_and_tokens_give_the_same_vector(client: Any, given: Any) -> None:
    answer = client.embeddings.create(model="words", input=given)
    np.testing.assert_allclose([one.embedding for one in answer.data], [vector_of("a cat")], rtol=1e-6)
    assert answer.usage.prompt_tokens == 2


def test_the_client_of_openai_raises_its_own_errors(client: Any) -> None:
    import openai

    with pytest.raises(openai.NotFoundError) as unknown:
        client.embeddings.create(model="no_such_model", input="a")
    assert unknown.value.code == "model_not_found"
    assert "no_such_model" in unknown.value.message
    with pytest.raises(openai.BadRequestError, match="9 tokens, this model takes 8"):
        client.embeddings.create(model="words", input="a cat sits on a mat a cat sits")
    with pytest.raises(openai.BadRequestError, match="may be cut to 2"):
        client.embeddings.create(model="words", input="a", dimensions=1)


def test_vectors_are_cut_where_the_model_allows_it(client: Any) -> None:
    for size in (2, 3):
        answer = client.embeddings.create(model="words", input="mat", dimensions=size)
        np.testing.assert_allclose(answer.data[0].embedding, vector_of("mat")[:size], rtol=1e-6)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "empty"),
        (b"[]", "object"),
        ({"input": "a"}, '"model"'),
        ({"model": 5, "input": "a"}, '"model"'),
        ({"model": "words"}, "null"),
        ({"model": "words", "input": []}, "empty"),
        ({"model": "words", "input": ""}, "item 0 is empty"),
        ({"model": "words", "input": ["a", ""]}, "item 1 is empty"),
        ({"model": "words", "input": [[]]}, "item 0 is empty"),
        ({"model": "words", "input": [[1, -1]]}, "-1"),
        ({"model": "words", "input": [[1, 7]]}, "token 7"),
        ({"model": "words", "input": [1, 10**12]}, "item 0"),
        ({"model": "words", "input": [True]}, "true"),
        ({"model": "words", "input": [[1, 2.5]]}, "token ids"),
        ({"model": "words", "input": {"a": 1}}, "text"),
        ({"model": "words", "input": ["a"] * 2_049}, "2048"),
        ({"model": "words", "input": "a", "encoding_format": "int8"}, "int8"),
        ({"model": "words", "input": "a", "dimensions": "2"}, "dimensions"),
        ({"model": "words", "input": "a", "dimensions": 0}, "dimensions"),
        ({"model": "words", "input": "a", "dimensions": 4}, "3 dimensions"),
    ],
)
def test_other_bodies_are_refused_in_the_shape_of_openai(words: ServerProcess, body: Any, named: str) -> None:
    answer = words.post(OPENAI, body)
    error = answer.json()["error"]
    assert (answer.status, error["type"], error["code"]) == (400, "invalid_request_error", "malformed_input")
    assert named in error["message"]


def test_deadlines_and_stage_times_are_those_of_every_route(words: ServerProcess) -> None:
    body = json.dumps({"model": "words", "input": "a"}).encode()
    late = words.post(OPENAI, body, {"X-Request-Deadline-Ms": "0.000001"})
    assert (late.status, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    timed = words.post(OPENAI, body, {"X-Slipway-Timing": "1"})
    assert "encode.compute;dur=" in timed.headers["server-timing"]
    assert words.post(OPENAI + "?cold=1", body).json() == words.post(OPENAI, body).json()


@pytest.mark.parametrize("size", [100_000, 700_000])
def test_large_bodies_are_read_elsewhere_with_the_same_answer(words: ServerProcess, size: int) -> None:
    texts = [f"mat{' ' * (size // 100)}cat"] * 100
    answer = asked(words, texts)
    assert answer.json()["usage"]["prompt_tokens"] == 200
    np.testing.assert_allclose(answer.json()["data"][99]["embedding"], vector_of("mat cat"), rtol=1e-6)
    unknown = words.post(OPENAI, {"model": "none", "input": texts})
    assert (unknown.status, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert asked(words, [*texts, ""]).json()["error"]["message"].endswith("item 100 is empty")


@pytest.mark.parametrize("given", ["a cat", ["a cat"], ids("a cat"), [ids("a cat")]])
def test_embed_gives_a_list_of_unit_vectors(words: ServerProcess, given: Any) -> None:
    vector = np.array(vector_of("a cat"))
    unit = words.post(TEI, {"inputs": given}).json()
    np.testing.assert_allclose(unit, [vector / np.linalg.norm(vector)], rtol=1e-6)
    plain = words.post(TEI, {"inputs": given, "normalize": False}).json()
    np.testing.assert_allclose(plain, [vector], rtol=1e-6)


def test_embed_cuts_a_long_text_only_if_asked(words: ServerProcess) -> None:
    text = "a cat sits on a mat a cat sits"
    refused = words.post(TEI, {"inputs": ["a", text]})
    assert (refused.status, refused.json()["error_type"]) == (413, "Validation")
    assert "item 1 has 9 tokens" in refused.json()["error"]
    for given in (text, ids(text)):
        cut = words.post(TEI, {"inputs": given, "truncate": True, "normalize": False}).json()
        np.testing.assert_allclose(cut, [vector_of(" ".join(text.split()[:MOST]))], rtol=1e-6)


@pytest.mark.parametrize("more", [{"truncate": 1}, {"truncation_direction": "left"}, {"prompt_name": "query"}])
def test_what_embed_does_not_do_is_refused(words: ServerProcess, more: dict[str, Any]) -> None:
    answer = words.post(TEI, {"inputs": "a", **more})
    assert (answer.status, answer.json()["error_type"]) == (400, "Validation")
    assert next(iter(more)) in answer.json()["error"]


def test_info_describes_the_default_model(words: ServerProcess) -> None:
    info = words.get("/info").json()
    assert (info["model_id"], info["max_input_length"]) == ("words", MOST)
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}


def test_normalized_vectors_stay_so_when_they_are_cut(serve: Serve, tmp_path: Path) -> None:
    model = pipeline(tmp_path / "words", normalize=True, dimensions=[2])
    server = serve(model, "--cache-mb", "1").ready()
    vector = np.array(vector_of("mat"))
    for _ in range(2):  # the second answer is the cache's
        cut = asked(server, "mat", dimensions=2)
        np.testing.assert_allclose(
            cut.json()["data"][0]["embedding"], vector[:2] / np.linalg.norm(vector[:2]), rtol=1e-6
        )
        assert cut.json()["usage"]["prompt_tokens"] == 1
    assert cut.headers["x-slipway-cache"] == "hit"
    refused = server.post(TEI, {"inputs": "mat", "normalize": False})
    assert (refused.status, refused.json()["code"]) == (400, "malformed_input")


def test_a_model_without_texts_gives_no_embeddings(mlp_server: ServerProcess) -> None:
    refused = mlp_server.post(OPENAI, {"model": "mlp", "input": "a"})
    assert refused.status == 400
    assert "tokenizer" in refused.json()["error"]["message"]
    assert mlp_server.post(TEI, {"inputs": "a"}).status == 400
    assert mlp_server.get("/info").status == 400


def test_dimensions_that_the_vectors_do_not_have_refuse_the_load(serve: Serve, tmp_path: Path) -> None:
    server = serve(pipeline(tmp_path / "words", dimensions=[2, 4]))
    assert server.exit_code() == 1
    assert "'dimensions' has 4, and the vectors have 3 only" in server.log()
