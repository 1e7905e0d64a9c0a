"""The work that the event loop does for one request: bounded by the expanded size, whatever the body holds."""

from __future__ import annotations

import asyncio
import gc
import io
import struct
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from server.codecs import Codec
from server.codecs.media import CODECS
from server.codecs.open_inference import OpenInference
from server.codecs.recordio import MAGIC_BYTES
from server.conversion.process import ConversionProcess
from server.observe.metrics import ModelMetrics
from server.protocols import inference, offload
from server.protocols.inference import infer
from server.protocols.offload import BULK_BYTES, LARGE_BYTES, PROCESS_BYTES, LargeWork, Place, place_of
from server.ragged import held_bytes
from server.request import Head, InferRequest, Payload
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec
from tests.fakes import FakeResponder

PATIENCE_S = 30.0
FLOATS, WORDS = (
    ModelSpec((TensorSpec("x", BY_NAME[name], (-1, -1)),), (TensorSpec("y", BY_NAME[name], (-1, -1)),))
    for name in ("FP32", "BYTES")
)
BY_TYPE = {codec.media_types[0]: codec for codec in CODECS}


def npz(size: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(size))
    return file.getvalue()


def sparse() -> bytes:
    """One record of 36 bytes that stands for a row of 2 ** 26 values."""
    return bytes.fromhex("0a23d7ce1a0000000a180a0676616c756573120e3a0c0a01051201031a04808080200000")


BODIES: dict[str, list[Callable[[], bytes]]] = {
    "application/json": [
        lambda: b"[[" + b"1," * LARGE_BYTES + b"1]]",
        lambda: b"[" * 2 * LARGE_BYTES,
        lambda: b" " * 2 * LARGE_BYTES,
        lambda: b"[[]" + b",[]" * LARGE_BYTES + b"]",
    ],
    "text/csv": [
        lambda: b"1," * LARGE_BYTES,
        lambda: b"1\n" * LARGE_BYTES,
        lambda: b'"' * 2 * LARGE_BYTES,
        lambda: b"\n" * 2 * LARGE_BYTES,
    ],
    "application/jsonlines": [lambda: b"[1]\n" * LARGE_BYTES, lambda: b"\n" * 2 * LARGE_BYTES],
    "application/x-npy": [lambda: bytes(BULK_BYTES + 1)],
    "application/x-npz": [lambda: npz(BULK_BYTES + 1), lambda: b"PK" + bytes(2 * LARGE_BYTES)],
    "application/x-recordio-protobuf": [lambda: (MAGIC_BYTES + bytes(4)) * LARGE_BYTES, sparse],
    OpenInference().media_types[0]: [lambda: bytes(2 * LARGE_BYTES)],
    "text/plain": [lambda: bytes(2 * LARGE_BYTES)],
    "application/octet-stream": [lambda: bytes(2 * LARGE_BYTES)],
}
EVERY_BODY = pytest.mark.parametrize(
    ("media_type", "make"), [(kind, make) for kind, makers in BODIES.items() for make in makers]
)


def test_every_codec_is_here() -> None:
    assert BODIES.keys() == BY_TYPE.keys()


@EVERY_BODY
def test_a_body_that_takes_long_is_never_read_on_the_loop(media_type: str, make: Callable[[], bytes]) -> None:
    codec, body = BY_TYPE[media_type], make()
    spec = WORDS if media_type in ("text/plain", "application/octet-stream") else FLOATS
    size = codec.expanded_bytes(body, spec)
    assert size > LARGE_BYTES
    assert place_of(codec, size, spec.inputs) is not Place.LOOP


@pytest.mark.parametrize("codec", CODECS, ids=BY_TYPE)
@pytest.mark.parametrize("spec", [FLOATS, WORDS], ids=["floats", "words"])
def test_large_values_that_are_handled_one_by_one_get_the_process(codec: Codec, spec: ModelSpec) -> None:
    one_by_one = codec.interpreted or spec is WORDS
    for size, place in (
        (LARGE_BYTES + 1, Place.THREAD if one_by_one else Place.LOOP),
        (BULK_BYTES + 1, Place.PROCESS if one_by_one else Place.THREAD),
    ):
        assert place_of(codec, size, spec.inputs) is place
    assert PROCESS_BYTES < BULK_BYTES


class Process:
    """Makes the calls of the conversion process on the thread that asks, and remembers them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        self.calls.append((function.__name__, threading.get_ident()))
        return function(*args)

    def close(self) -> None:
        pass


class Recorded:
    """A codec that remembers the threads on which it worked."""

    interpreted = True
    media_types: tuple[str, ...] = ("application/json",)

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.threads: list[int] = []

    def expanded_bytes(self, body: bytes, spec: ModelSpec) -> int:
        return self._codec.expanded_bytes(body, spec)

    def decode(self, *args: Any) -> Payload:
        self.threads.append(threading.get_ident())
        return self._codec.decode(*args)

    def encode(self, *args: Any) -> Any:
        self.threads.append(threading.get_ident())
        return self._codec.encode(*args)


@pytest.mark.parametrize(("values", "processed"), [(2, 0), (20_000, 0), (200_000, 2)])
def test_where_a_request_is_read_and_its_response_is_written(
    monkeypatch: pytest.MonkeyPatch, values: int, processed: int
) -> None:
    process = Process()
    made: Any = process
    monkeypatch.setattr(offload, "_large", LargeWork(made, idle_s=PATIENCE_S))
    codec = Recorded(BY_TYPE["application/json"])
    body = b"[[" + b"1.25," * (values - 1) + b"1.5]]"
    status, answer = asyncio.run(asked(codec, FLOATS, body))
    assert (status, answer.count(b"1.25")) == (200, values - 1)
    here = threading.get_ident()
    assert [thread == here for thread in codec.threads] == [values == 2] * 2
    assert [name for name, _ in process.calls] == ["decode", "encode"][:processed]


def test_strings_of_a_large_body_are_counted_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Any = Process()
    monkeypatch.setattr(offload, "_large", LargeWork(made, idle_s=PATIENCE_S))
    codec = Recorded(BY_TYPE["application/json"])
    counted: list[int] = []

    def count(arrays: Sequence[Array]) -> int:
        counted.append(threading.get_ident())
        return held_bytes(arrays)

    monkeypatch.setattr(inference, "held_bytes", count)
    assert asyncio.run(asked(codec, WORDS, b"[[" + b'"a",' * 20_000 + b'"b"]]'))[0] == 200
    assert len(counted) == 1
    assert counted[0] != threading.get_ident()


async def asked(codec: Recorded, spec: ModelSpec, body: bytes) -> tuple[int, bytes]:
    """The response of a model that returns its input."""
    answered: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
    responder = FakeResponder(sent=lambda status, body: answered.set_result((status, body)))

    def submit(request: InferRequest) -> None:
        request.outputs = list(request.arrays)
        request.done(request)

    model: Any = SimpleNamespace(
        name="m", version="1", spec=spec, metrics=ModelMetrics("m", "1"), cache=None, watch=None, trace=None,
        capture=None,
        deadline_ns=0, max_rows=10, begun=0, scheduler=SimpleNamespace(refusing=False), submit=submit,
    )  # fmt: skip
    infer(model, Head(b"POST", b"/invocations", []), body, responder, codec, codec)
    assert model.begun == (not answered.done())  # a drain waits for a body that is read on another thread
    answer = await asyncio.wait_for(answered, PATIENCE_S)
    assert model.begun == 0
    return answer


@EVERY_BODY
def test_a_refused_body_is_let_go_without_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch, process: ConversionProcess, media_type: str, make: Callable[[], bytes]
) -> None:
    monkeypatch.setattr(offload, "_large", LargeWork(process, idle_s=PATIENCE_S))
    body = make()
    spec = WORDS if media_type in ("text/plain", "application/octet-stream") else FLOATS
    before = sys.getrefcount(body)
    gc.collect()
    gc.disable()
    try:
        status, _ = asyncio.run(asked_and_idle(Recorded(BY_TYPE[media_type]), spec, body))
        assert status == 200 or 400 <= status < 500
        assert sys.getrefcount(body) == before
    finally:
        gc.enable()


@pytest.fixture(scope="module")
def process() -> Iterator[ConversionProcess]:
    one = ConversionProcess()
    yield one
    one.close()


async def asked_and_idle(codec: Recorded, spec: ModelSpec, body: bytes) -> tuple[int, bytes]:
    """The same, after the thread of large bodies has let go of this one."""
    answer = await asked(codec, spec, body)
    idle: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    offload.elsewhere(Place.PROCESS, lambda _: None, idle.set_result)
    await asyncio.wait_for(idle, PATIENCE_S)
    return answer


def test_more_rows_than_the_limit_are_refused() -> None:
    codec = Recorded(BY_TYPE["application/json"])
    status, answer = asyncio.run(asked(codec, FLOATS, b"[" + b"[1]," * 10 + b"[1]]"))
    assert status == 413
    assert b"11 rows" in answer


def test_a_record_of_few_bytes_counts_as_the_row_that_it_stands_for() -> None:
    codec = BY_TYPE["application/x-recordio-protobuf"]
    assert len(sparse()) == 36
    assert struct.unpack_from("<I", sparse())[0] == struct.unpack("<I", MAGIC_BYTES)[0]
    assert codec.expanded_bytes(sparse(), FLOATS) > BULK_BYTES
