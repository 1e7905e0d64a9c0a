"""The wire format: messages that are taken apart are the messages that the library parses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import MalformedInput
from server.grpc import wire
from server.grpc.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse

REQUESTS = st.builds(
    lambda name, version, identity, raw, inputs: ModelInferRequest(
        model_name=name,
        model_version=version,
        id=identity,
        raw_input_contents=raw,
        inputs=[ModelInferRequest.InferInputTensor(name=one, shape=[1]) for one in inputs],
    ),
    st.text(max_size=5),
    st.text(max_size=2),
    st.text(max_size=3),
    st.lists(st.binary(max_size=300), max_size=3),
    st.lists(st.text(max_size=3), max_size=2),
)


def taken_apart(body: bytes, cut_bytes: int) -> object:
    """What both ways make of a body; None if it is refused."""
    kept, wire.CUT_BYTES = wire.CUT_BYTES, cut_bytes
    try:
        address = wire.address(body)
        message, raw = wire.opened(body)
    except MalformedInput:
        return None
    finally:
        wire.CUT_BYTES = kept
    whole = [*raw]
    del message.raw_input_contents[:]
    return address, [bytes(one) for one in whole], message.SerializeToString(deterministic=True)


@given(REQUESTS, REQUESTS)
def test_a_large_message_is_taken_apart_as_the_library_parses_it(
    one: ModelInferRequest, two: ModelInferRequest
) -> None:
    body = one.SerializeToString() + two.SerializeToString()  # fields repeat, and their order is another one
    small = taken_apart(body, 1 << 30)
    assert small is not None
    assert taken_apart(body, -1) == small


@given(st.binary(max_size=60))
def test_any_bytes_are_taken_apart_or_refused(body: bytes) -> None:
    apart = taken_apart(body, -1)
    if apart is not None:
        ModelInferRequest.FromString(body)


@given(REQUESTS, st.data())
def test_a_message_that_was_cut_off_or_changed_is_never_another_error(
    message: ModelInferRequest, data: st.DataObject
) -> None:
    body = bytearray(message.SerializeToString() or b"\x0a\x01m")
    at = data.draw(st.integers(0, len(body) - 1))
    taken_apart(bytes(body[:at]), -1)
    body[at] = data.draw(st.integers(0, 255))
    taken_apart(bytes(body), -1)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 3_000_000])
def test_raw_outputs_are_appended(size: int) -> None:
    head = ModelInferResponse(model_name="m", id="7")
    joined = wire.with_raw_outputs(head.SerializeToString(), [b"a", bytes(size)])
    assert ModelInferResponse.FromString(joined) == ModelInferResponse(
        model_name="m", id="7", raw_output_contents=[b"a", bytes(size)]
    )
    streamed = ModelStreamInferResponse.FromString(wire.stream_response(joined))
    assert len(streamed.infer_response.raw_output_contents[1]) == size
    assert streamed.error_message == ""


def test_an_error_of_a_stream_keeps_the_id() -> None:
    body = wire.stream_response(ModelInferResponse(id="7").SerializeToString(), "grüße \ud800")
    streamed = ModelStreamInferResponse.FromString(body)
    assert (streamed.infer_response.id, streamed.error_message) == ("7", "grüße ?")
