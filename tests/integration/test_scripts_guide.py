"""The examples of docs/scripts.md: each script is served with the command shown, and each curl line is sent."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
from onnx import TensorProto, helper, save

from tests.integration.conftest import Serve

PAGE = Path(__file__).parents[2] / "docs" / "scripts.md"
EXAMPLE = re.compile(
    r"<!-- example: (?P<name>[\w-]+)(?P<needs>[^>]*) -->\n"
    r"```python\n(?P<script>.*?)```\n```console\n(?P<console>.*?)```",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Example:
    """One script of the guide: its text, the server's flags, and pairs of a curl command and the expected output."""

    name: str
    script: str
    flags: list[str]
    requests: list[tuple[list[str], str]]
    with_onnx: bool


def examples() -> list[Example]:
    return [_example(match) for match in EXAMPLE.finditer(PAGE.read_text(encoding="utf-8"))]


def _example(match: re.Match[str]) -> Example:
    start, *commands = re.split(r"^\$ ", match["console"], flags=re.MULTILINE)[1:]
    words = shlex.split(start)
    assert words[:4] == ["python", "serve.py", "--model", "model"], "an example begins with the server's command"
    requests = [(shlex.split(text.partition("\n")[0]), text.partition("\n")[2]) for text in commands]
    return Example(match["name"], match["script"], words[4:], requests, "model.onnx" in match["needs"])


def _doubling(path: Path) -> None:
    """A model of float32 [any, 2] that doubles its input."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2])] for name in ("x", "y")]
    graph = helper.make_graph(nodes, "doubling", ends[0], ends[1])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _curl(words: list[str]) -> tuple[str, bytes, dict[str, str]]:
    """URL path, body and headers of a curl command with -H and -d."""
    assert words[0] == "curl"
    path = words[1].partition("/")[2]
    options = list(zip(words[2::2], words[3::2], strict=True))
    headers = dict(value.split(": ", 1) for flag, value in options if flag == "-H")
    (body,) = [value for flag, value in options if flag == "-d"]
    return "/" + path, body.encode(), headers


def test_every_script_of_the_guide_is_an_example() -> None:
    assert len(examples()) == PAGE.read_text(encoding="utf-8").count("```python") >= 7


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_an_example_responds_as_the_guide_shows(example: Example, serve: Serve, tmp_path: Path) -> None:
    code = tmp_path / "model" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(example.script)
    if example.with_onnx:
        _doubling(tmp_path / "model" / "model.onnx")
    server = serve(tmp_path / "model", *example.flags).ready()
    for words, expected in example.requests:
        path, body, headers = _curl(words)
        answer = server.post(path, body, headers)
        pattern = re.escape(expected.rstrip("\n")).replace(re.escape("..."), ".+")
        assert re.fullmatch(pattern, answer.body.decode().rstrip("\n")), (words, answer)
