"""Script functions: their arguments, and the responses made from results and exceptions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.artifact import Artifact, Manifest
from server.errors import (
    BrokenArtifact,
    MalformedInput,
    ModelFailed,
    NotAcceptable,
    OutOfMemory,
    SlipwayError,
    UnsupportedMedia,
)
from server.scripts.call import SPEC, Call, ScriptResponse
from server.scripts.loaded_script import LoadedScript, ScriptConfig

Load = Callable[..., LoadedScript]


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """``load(text, **config)``: a loaded script of that text."""
    opened: list[LoadedScript] = []

    def start(text: str, **config: Any) -> LoadedScript:
        path = tmp_path / "code" / "inference.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        artifact = Artifact(tmp_path, Manifest("m", "1", "script", "code/inference.py", SPEC), declared=False)
        script = LoadedScript(artifact, ScriptConfig(path, **config))
        opened.append(script)
        return script

    yield start
    for script in opened:
        script.close()


def call(body: bytes = b"[1, 2]", kind: str | None = "application/json", **more: Any) -> Call:
    return Call(body, kind, more.pop("accept", "application/json"), **more)


def ask(script: LoadedScript, *calls: Call) -> ScriptResponse:
    return script.run(calls or (call(),))[0]


def failure(script: LoadedScript, *calls: Call) -> SlipwayError:
    error = ask(script, *calls).error
    assert error is not None
    return error


ECHO = "def model_fn(d): return 'm'\ndef predict_fn(x, m): return x\n"


def test_two_functions_are_enough(load: Load) -> None:
    response = ask(load("def model_fn(d): return 3\ndef predict_fn(x, m): return x * m"))
    assert (response.status, response.content_type, response.body) == (200, "application/json", b"[3,6]")


def test_all_functions_are_called_in_their_order_with_what_the_toolkit_gives(load: Load, tmp_path: Path) -> None:
    script = load(
        "import json\nseen = []\n"
        "def pre_model_fn(d): seen.append(['pre', d])\n"
        "def model_fn(d): seen.append(['model', d]); return 'M'\n"
        "def model_warmup_fn(d, m): seen.append(['warm', d, m])\n"
        "def input_fn(body, kind): return [body, type(body).__name__, kind]\n"
        "def predict_fn(x, m): return [*x, m]\n"
        "def output_fn(p, accept): return json.dumps([seen, p, accept]), 'application/x-own'\n"
    )
    response = ask(script, call(accept="text/plain"))
    root = str(tmp_path)
    assert json.loads(response.body) == [
        [["pre", root], ["model", root], ["warm", root, "M"]],
        ["[1, 2]", "str", "application/json", "M"],
        "text/plain",
    ]
    assert response.content_type == "application/x-own"


def test_a_context_goes_to_the_functions_that_take_one_more_argument(load: Load) -> None:
    script = load(
        "def model_fn(d, context): return context.system_properties['model_dir'] == d\n"
        "def input_fn(b, k): return b\n"
        "def predict_fn(x, m, ctx=None):\n"
        "    ctx.set_response_header(0, 'X-Amzn-SageMaker-Custom-Attributes', ctx.custom_attributes + '!')\n"
        "    ctx.set_response_status(202, 'whatever')\n"
        "    return [m, ctx.get_request_header(0, 'X-Own'), ctx.get_request_id(0)]\n"
        "def output_fn(p, a, context):\n"
        "    context.set_response_content_type(0, 'text/own')\n"
        "    return str(p)\n"
    )
    headers = [(b"x-amzn-sagemaker-custom-attributes", b"trace"), (b"x-own", b"7")]
    response = ask(script, call(headers=headers, request_id="r-1"))
    assert (response.status, response.content_type, response.body) == (202, "text/own", b"[True, '7', 'r-1']")
    assert response.headers == [(b"x-amzn-sagemaker-custom-attributes", b"trace!")]


def test_a_context_is_never_shared_between_requests(load: Load) -> None:
    script = load(
        ECHO + "def output_fn(p, a, c):\n"
        "    had = dict(c.get_response_headers(0))\n"
        "    c.set_response_header(0, 'x-mine', c.get_request_id(0)); return str(had)\n"
    )
    first, second = script.run([call(request_id="a"), call(request_id="b")])
    assert (first.body, second.body) == (b"{}", b"{}")
    assert (first.headers, second.headers) == ([(b"x-mine", b"a")], [(b"x-mine", b"b")])


@pytest.mark.parametrize("bad", ["'x: y', '1'", "'x', 'a\\nb'", "'x', '\\u20ac'", "'', '1'"])
def test_a_header_that_is_none_is_a_fault_of_the_script(load: Load, bad: str) -> None:
    script = load(ECHO + f"def output_fn(p, a, c): c.set_response_header(0, {bad}); return 'x'")
    assert isinstance(failure(script), ModelFailed)


def test_transform_fn_replaces_the_three(load: Load) -> None:
    script = load("def model_fn(d): return 1\ndef transform_fn(m, body, kind, accept): return body + kind, accept\n")
    assert ask(script, call(accept="text/plain")).body == b"[1, 2]application/json"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def model_fn(d): pass\ndef transform_fn(m, b, k, a): pass\ndef predict_fn(x, m): pass", "transform_fn and"),
        ("def predict_fn(x, m): pass", "no model_fn"),
        ("def model_fn(d): return 1", "no predict_fn"),
        ("def model_fn(): pass\ndef predict_fn(x, m): pass", "model_fn takes 0 arguments"),
        ("def model_fn(d): pass\ndef predict_fn(x, m, c, z): pass", "predict_fn takes 4"),
        ("x = 1", "defines none of"),
        ("raise RuntimeError('boom')", "cannot be imported: RuntimeError: boom"),
        ("import sys; sys.exit(4)", "cannot be imported: SystemExit"),
        ("import no_such_package", "no_such_package"),
        ("def model_fn(d): raise OSError('no weights')\ndef predict_fn(x, m): pass", "model_fn failed: OSError"),
        ("def model_fn(d): raise SystemExit(1)\ndef predict_fn(x, m): pass", "model_fn failed: SystemExit"),
        ("class A:\n def initialize(s, c): 1/0\n def handle(s, d, c): pass", "cannot be initialized: ZeroDivision"),
    ],
)
def test_what_cannot_be_served_says_why_at_load(load: Load, text: str, reason: str) -> None:
    with pytest.raises(BrokenArtifact, match=reason):
        load(text)


def test_a_model_that_predicts_by_itself_needs_no_predict_fn(load: Load) -> None:
    assert ask(load("class M:\n def predict(s, x): return x + 1\ndef model_fn(d): return M()")).body == b"[2,3]"
    assert ask(load("def model_fn(d): return lambda x: x + 2")).body == b"[3,4]"


@pytest.mark.parametrize("step", ["input_fn(b, k)", "predict_fn(x, m)", "output_fn(p, a)"])
@pytest.mark.parametrize(("raised", "kind"), [("KeyError(1)", ModelFailed), ("MemoryError()", OutOfMemory)])
def test_what_a_function_raises_is_told_by_its_kind_and_place_only(
    load: Load, step: str, raised: str, kind: type[SlipwayError]
) -> None:
    error = failure(load(ECHO + f"def {step}: raise {raised}"))
    assert type(error) is kind
    assert step.partition("(")[0] in str(error)


def test_sys_exit_fails_one_request(load: Load) -> None:
    script = load(ECHO + "import sys\ndef input_fn(b, k):\n    if b == 'x': sys.exit(1)\n    return b")
    responses = script.run([call(b"x"), call(b"y")])
    assert "sys.exit" in str(responses[0].error)
    assert responses[1].body == b'"y"'


@pytest.mark.parametrize("value", ["None", "{}", "5", "('a', 5)", "('a', 'b', 'c')", "('a', 'b\\n')"])
def test_wrong_return_types_are_faults_of_the_script(load: Load, value: str) -> None:
    assert isinstance(failure(load(ECHO + f"def output_fn(p, a): return {value}")), ModelFailed)


def test_the_default_functions_give_the_right_codes(load: Load) -> None:
    script = load(ECHO)
    assert isinstance(failure(script, call(b"[1,")), MalformedInput)
    assert isinstance(failure(script, call(kind="image/png")), UnsupportedMedia)
    assert isinstance(failure(script, call(accept="image/png")), NotAcceptable)


SHIMS = (
    "from sagemaker_inference import content_types, decoder, encoder, errors, utils, environment\n"
    "from sagemaker_inference.errors import BaseInferenceToolkitError\nfrom mms.service import PredictionException\n"
)


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        ("errors.GenericInferenceToolkitError(418, 'short')", 418, "short"),
        ("BaseInferenceToolkitError(422, 'no', 'phrase')", 422, "no"),
        ("PredictionException('gone', 410)", 410, "gone"),
        ("PredictionException('plain')", 500, "plain"),
        ("errors.GenericInferenceToolkitError(99, 'odd')", 500, "odd"),
    ],
)
def test_the_toolkits_errors_choose_the_answer(load: Load, raised: str, status: int, message: str) -> None:
    response = ask(load(SHIMS + ECHO + f"def input_fn(b, k): raise {raised}"), call(request_id="r"))
    assert response.status == status
    assert json.loads(response.body) == {"error": message, "code": "script_error", "request_id": "r"}


def test_an_unsupported_format_is_415_in_and_406_out(load: Load) -> None:
    text = SHIMS + ECHO
    raised = "raise errors.UnsupportedFormatError(x)"
    assert isinstance(failure(load(text + f"def input_fn(b, x): {raised}")), UnsupportedMedia)
    assert isinstance(failure(load(text + f"def output_fn(p, x): {raised}")), NotAcceptable)


def test_the_shims_read_and_write_as_the_toolkit_does(load: Load) -> None:
    script = load(
        SHIMS + ECHO + "def input_fn(b, k): return decoder.decode(b, k)\n"
        "def output_fn(p, a): return encoder.encode(p, content_types.CSV), content_types.CSV\n"
    )
    response = ask(script)
    assert (response.body, response.content_type) == (b"1\n2\n", "text/csv")


def test_a_batched_predict_fn_shares_one_call(load: Load) -> None:
    script = load(ECHO + "def predict_batch_fn(xs, m, cs): return [[len(xs), c.get_request_id()] for c in cs]")
    assert script.most_calls == 32
    responses = script.run([call(request_id="a"), call(b"[", request_id="bad"), call(request_id="b")])
    assert [responses[0].body, responses[2].body] == [b'[2,"a"]', b'[2,"b"]']
    assert isinstance(responses[1].error, MalformedInput)


@pytest.mark.parametrize("returned", ["[1]", "None", "1 / 0"])
def test_what_a_batched_predict_fn_gets_wrong_is_tried_apart(load: Load, returned: str) -> None:
    script = load(ECHO + f"def predict_batch_fn(xs, m): return {returned} if len(xs) > 1 else xs")
    with pytest.raises((ModelFailed, ZeroDivisionError)):
        script.run([call(), call()])
    assert ask(script).body == b"[1,2]"


CLASS_HANDLER = (
    "class Handler:\n"
    "    def initialize(self, context): self.root = context.system_properties['model_dir']\n"
    "    def handle(self, data, context):\n"
    "        context.set_response_content_type(0, 'text/own')\n"
    "        return [row['body'] + context.get_request_header(i, 'X-Own').encode() for i, row in enumerate(data)]\n"
)


def test_class_handlers_of_the_multi_model_server(load: Load) -> None:
    script = load(CLASS_HANDLER, batch_size=4)
    responses = script.run([call(headers=[(b"x-own", b"a")]), call(headers=[(b"x-own", b"b")])])
    assert [response.body for response in responses] == [b"[1, 2]a", b"[1, 2]b"]
    assert [response.content_type for response in responses] == ["text/own", "application/json"]
    assert script.most_calls == 4
    assert load(CLASS_HANDLER).most_calls == 1


def test_a_handle_function_is_told_to_load_first_and_may_return_what_json_holds(load: Load) -> None:
    script = load("calls = []\ndef handle(data, context):\n    calls.append(data)\n    return [{'calls': len(calls)}]")
    assert ask(script).body == b'{"calls":2}'


def test_a_handler_that_answers_another_number_of_requests_is_wrong(load: Load) -> None:
    script = load("def handle(data, context): return ['a', 'b']")
    assert "one result for each request" in str(failure(script))


def test_a_named_attribute_is_the_handler(load: Load) -> None:
    two = CLASS_HANDLER + CLASS_HANDLER.replace("Handler", "Other").replace("+ context", "+ b'!' + context")
    with pytest.raises(BrokenArtifact, match="several classes"):
        load(two)
    assert ask(load(two, attribute="Other"), call(headers=[(b"x-own", b"a")])).body == b"[1, 2]!a"
    with pytest.raises(BrokenArtifact, match="'Third'"):
        load(two, attribute="Third")


def test_a_handler_service_of_the_toolkit_runs_unchanged(load: Load) -> None:
    script = load(
        "from sagemaker_inference.default_handler_service import DefaultHandlerService\n"
        "from sagemaker_inference.default_inference_handler import DefaultInferenceHandler\n"
        "from sagemaker_inference.transformer import Transformer\n"
        "class Inner(DefaultInferenceHandler):\n"
        "    def default_model_fn(self, model_dir): return 2\n"
        "    def default_predict_fn(self, data, model): return data * model\n"
        "class HandlerService(DefaultHandlerService):\n"
        "    def __init__(self):\n"
        "        super().__init__(transformer=Transformer(default_inference_handler=Inner()))\n"
    )
    response = ask(script, call(headers=[(b"content-type", b"application/json")]))
    assert response.body == b"[2,4]"
