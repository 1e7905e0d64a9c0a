"""The Open Inference Protocol over gRPC: a real server asked by a real client."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from server.grpc import inference_pb2 as messages
from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.grpc_client import Client, client_of, grpc_port, infer_request, output_of
from tests.integration.server_process import ServerProcess, eventually, server_process
from tests.integration.test_keys_and_tls import certificate

X = np.arange(24, dtype=np.float32).reshape(3, 8) / 10
FAKE_X = np.array([[1, 2, 3, 4]], np.float32)
SERVICE = "inference.GRPCInferenceService"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The MLP, with gRPC and a body limit of 6 MB."""
    directory = tmp_path_factory.mktemp("grpc")
    model = sample_models.mlp(directory / "mlp.onnx")
    with server_process(directory, model, "--grpc-port", "0", "--max-body-mb", "6") as process:
        yield process.ready()


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with client_of(server) as one:
        yield one


@pytest.fixture
def slow(serve: Serve, tmp_path: Path) -> ServerProcess:
    """A fake model whose run takes 60 ms, one request at a time."""
    model = sample_models.fake(tmp_path / "model", batch_sizes=(1,), wait_us=60_000, poison=666)
    return serve(model, "--grpc-port", "0", "--max-queue-ms", "20000", "--inline-below-us", "0").ready()


def test_health_and_metadata_say_what_the_http_routes_say(client: Client, server: ServerProcess) -> None:
    assert client.call("ServerLive").live
    assert client.call("ServerReady").ready
    assert client.call("ModelReady", messages.ModelReadyRequest(name="mlp", version="1")).ready
    metadata, rest = client.call("ServerMetadata"), server.get("/v2").json()
    assert (metadata.name, metadata.version, list(metadata.extensions)) == tuple(rest.values())
    model = client.call("ModelMetadata", messages.ModelMetadataRequest(name="mlp"))
    assert (model.name, list(model.versions), model.platform) == ("mlp", ["1"], "onnxruntime_onnx")
    assert [(one.name, one.datatype, list(one.shape)) for one in model.inputs] == [("x", "FP32", [-1, 8])]
    config = client.call("ModelConfig", messages.ModelConfigRequest(name="mlp")).config
    assert config.max_batch_size == server.get("/v2/models/mlp/config").json()["max_batch_size"]
    assert (config.input[0].data_type, list(config.input[0].dims)) == (messages.TYPE_FP32, [8])


@pytest.mark.parametrize("version", ["", "1"])
def test_infer_raw_and_typed_contents(client: Client, version: str) -> None:
    raw = client.call("ModelInfer", infer_request(X, id="a", model_version=version))
    np.testing.assert_allclose(output_of(raw), sample_models.mlp_answer(X), rtol=1e-5)
    assert (raw.model_name, raw.model_version, raw.id) == ("mlp", "1", "a")
    typed = messages.ModelInferRequest(model_name="mlp", model_version=version)
    typed.inputs.add(name="x", datatype="FP32", shape=X.shape).contents.fp32_contents.extend(X.ravel().tolist())
    assert client.call("ModelInfer", typed).raw_output_contents == raw.raw_output_contents


@pytest.mark.parametrize(
    ("request_", "code", "says"),
    [
        (infer_request(X, "other"), "NOT_FOUND", "no model named 'other'"),
        (infer_request(X, model_version="9"), "NOT_FOUND", "9"),
        (infer_request(X, model_version="x\n"), "NOT_FOUND", ""),
        (messages.ModelInferRequest(), "NOT_FOUND", "no model named ''"),
        (messages.ModelInferRequest(model_name="mlp"), "INVALID_ARGUMENT", "missing"),
        (infer_request(X[:, :5]), "INVALID_ARGUMENT", "[any, 8]"),
        (infer_request(np.full((1, 8), np.nan)), "INVALID_ARGUMENT", "NaN"),
    ],
)
def test_refusals_have_their_codes_and_sentences(client: Client, request_: Any, code: str, says: str) -> None:
    got, details = client.failure("ModelInfer", request_)
    assert got == code
    assert says in details
    assert "Traceback" not in details
    assert "server/" not in details


@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "RepositoryModelLoad"])
def test_bytes_that_are_no_message_are_an_invalid_argument(client: Client, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.channel.unary_unary(f"/{SERVICE}/{method}")(b"\x0a\xff", timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not a well-formed" in caught.value.details()


def test_an_unknown_model_is_not_ready_and_has_no_metadata(client: Client) -> None:
    assert not client.call("ModelReady", messages.ModelReadyRequest(name="other")).ready
    for method in ("ModelMetadata", "ModelConfig", "ModelStatistics"):
        request = getattr(messages, method + "Request")(name="other")
        assert client.failure(method, request)[0] == "NOT_FOUND"


def test_statistics_count_requests_of_both_protocols(client: Client) -> None:
    def count() -> int:
        stats = client.call("ModelStatistics", messages.ModelStatisticsRequest(name="mlp")).model_stats[0]
        return int(stats.inference_stats.success.count)

    before = count()
    client.call("ModelInfer", infer_request(X))
    assert count() == before + 1
    assert [one.name for one in client.call("ModelStatistics").model_stats] == ["mlp"]


def test_a_stream_gives_each_request_one_response_in_order_and_survives_errors(client: Client) -> None:
    requests = [infer_request(X[:1], "mlp" if number % 3 else "other", id=str(number)) for number in range(100)]
    responses = list(client.stream(requests))
    assert [one.infer_response.id for one in responses] == [str(number) for number in range(100)]
    for number, one in enumerate(responses):
        assert bool(one.error_message) == (number % 3 == 0)
        if number % 3:
            np.testing.assert_allclose(output_of(one.infer_response), sample_models.mlp_answer(X[:1]), rtol=1e-5)
            assert one.infer_response.parameters["triton_final_response"].bool_param


def test_a_client_that_leaves_its_stream_harms_nobody(client: Client) -> None:
    gate: Queue[Any] = Queue()
    stream = client.stream(iter(gate.get, None))
    gate.put(infer_request(X))
    assert next(stream).infer_response.model_name == "mlp"
    stream.cancel()
    gate.put(None)
    assert client.call("ServerReady").ready


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_are_read(client: Client, algorithm: Any) -> None:
    response = client.call("ModelInfer", infer_request(X), compression=algorithm)
    np.testing.assert_allclose(output_of(response), sample_models.mlp_answer(X), rtol=1e-5)


def test_compressed_requests_of_a_stream_keep_their_order(server: ServerProcess) -> None:
    requests = [infer_request(np.zeros((1 + number % 2 * 900, 8)), id=str(number)) for number in range(40)]
    with client_of(server, compression=grpc.Compression.Gzip) as client:
        assert [one.infer_response.id for one in client.stream(requests)] == [str(number) for number in range(40)]


@pytest.mark.parametrize("kind", ["raw", "typed"])
def test_messages_above_4_mb_up_to_the_body_limit(client: Client, kind: str) -> None:
    x = np.random.default_rng(0).normal(size=(160_000, 8)).astype(np.float32)
    request = infer_request(x)
    if kind == "typed":
        request.inputs[0].contents.fp32_contents.extend(x.ravel().tolist())
        del request.raw_input_contents[:]
    assert request.ByteSize() > 5_000_000
    got = output_of(client.call("ModelInfer", request))
    np.testing.assert_allclose(got, sample_models.mlp_answer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("algorithm", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_message_beyond_the_body_limit_is_refused_also_when_it_arrives_compressed(
    client: Client, algorithm: Any
) -> None:
    code, _ = client.failure("ModelInfer", infer_request(np.zeros((200_000, 8))), compression=algorithm)
    assert code == "RESOURCE_EXHAUSTED"
    assert client.call("ServerReady").ready


def test_held_bytes_are_given_back(client: Client, server: ServerProcess) -> None:
    client.call("ModelInfer", infer_request(np.zeros((100_000, 8))))
    client.failure("ModelInfer", infer_request(np.zeros((100_000, 8)), "other"))

    def nothing_held() -> bool:
        return server.samples()["slipway_received_bytes"] == 0

    eventually(nothing_held, "no received bytes are held")


@pytest.mark.parametrize(
    "method", ["SystemSharedMemoryStatus", "CudaSharedMemoryRegister", "TraceSetting", "LogSettings"]
)
def test_what_other_servers_have_is_refused_with_a_sentence(client: Client, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.channel.unary_unary(f"/{SERVICE}/{method}")(b"", timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "not supported" in caught.value.details()


def test_an_unknown_method_is_unimplemented(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.channel.unary_unary(f"/{SERVICE}/Nothing")(b"", timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_reflection_lists_the_services_and_describes_them(client: Client) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    listed, described = stub.ServerReflectionInfo(iter(asked), timeout=30)
    names = {one.name for one in listed.list_services_response.service}
    assert names == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert described.file_descriptor_response.file_descriptor_proto


def test_health_of_the_server_and_its_service(client: Client) -> None:
    stub = health_pb2_grpc.HealthStub(client.channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    for name in ("", SERVICE):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=30).status == serving
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    unknown = stub.Watch(health_pb2.HealthCheckRequest(service="other"), timeout=30)
    assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    unknown.cancel()
    assert set(stub.List(health_pb2.HealthListRequest(), timeout=30).statuses) == {"", SERVICE}


def test_models_are_listed_unloaded_and_loaded_with_either_field(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.mlp(tmp_path / "mlp.onnx"), "--grpc-port", "0").ready()
    with client_of(server) as client:
        assert [(one.name, one.state) for one in client.call("RepositoryIndex").models] == [("mlp", "READY")]
        gone = client.call("RepositoryModelUnload", messages.RepositoryModelUnloadRequest(model_name="mlp"))
        assert (gone.model_name, gone.isUnloaded) == ("mlp", True)
        assert client.failure("ModelInfer", infer_request(X))[0] == "NOT_FOUND"
        assert not client.call("RepositoryIndex", messages.RepositoryIndexRequest(ready=True)).models
        back = client.call("RepositoryModelLoad", messages.RepositoryModelLoadRequest(repository_name="mlp"))
        assert (back.model_name, back.isLoaded) == ("mlp", True)
        assert client.call("ModelInfer", infer_request(X)).outputs
        load = messages.RepositoryModelLoadRequest(model_name="other")
        assert client.failure("RepositoryModelLoad", load)[0] == "NOT_FOUND"
        load.parameters["config"].string_param = "{}"
        load.parameters["file:1/model.onnx"].bytes_param = (tmp_path / "mlp.onnx").read_bytes()
        client.call("RepositoryModelLoad", load)
        assert client.call("ModelInfer", infer_request(X, "other")).outputs
        client.call("RepositoryModelUnload", messages.RepositoryModelUnloadRequest(model_name="other"))


def test_models_cannot_be_changed_where_the_admin_routes_are_off(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.mlp(tmp_path / "mlp.onnx"), "--grpc-port", "0", "--no-admin").ready()
    with client_of(server) as client:
        for method in ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"):
            assert client.failure(method)[0] == "UNIMPLEMENTED"
        assert client.call("ModelInfer", infer_request(X)).outputs


def test_the_time_that_a_call_has_left_is_its_deadline(slow: ServerProcess) -> None:
    with client_of(slow) as client:
        client.call("ModelInfer", infer_request(FAKE_X, "fake"))
        assert client.failure("ModelInfer", infer_request(FAKE_X, "fake"), timeout_s=0.02)[0] == "DEADLINE_EXCEEDED"
        request = infer_request(FAKE_X, "fake")
        request.parameters["timeout"].int64_param = 1_000
        code, details = client.failure("ModelInfer", request)
        assert (code, "deadline" in details) == ("DEADLINE_EXCEEDED", True)


def test_cancelled_calls_are_never_run(serve: Serve, tmp_path: Path) -> None:
    model = sample_models.fake(tmp_path / "model", batch_sizes=(1,), wait_us=400_000)
    server = serve(model, "--grpc-port", "0", "--max-queue-ms", "20000", "--inline-below-us", "0").ready()
    runs = server.get("/v2/models/fake/stats").json()["model_stats"][0]["execution_count"]
    with client_of(server) as client:
        calls = [client.method("ModelInfer").future(infer_request(FAKE_X, "fake")) for _ in range(4)]
        eventually(lambda: server.samples()["slipway_queue_rows"] == 3, "three requests wait behind the first")
        for one in calls:
            one.cancel()
        assert client.call("ModelInfer", infer_request(FAKE_X, "fake")).outputs
    eventually(lambda: server.samples().get("slipway_requests_total{outcome=client_gone}") == 4, "all four are counted")
    after = server.get("/v2/models/fake/stats").json()["model_stats"][0]["execution_count"]
    assert after - runs == 2


def test_overload_is_resource_exhausted_with_the_time_to_retry(serve: Serve, tmp_path: Path) -> None:
    model = sample_models.fake(tmp_path / "model", batch_sizes=(1,), wait_us=60_000)
    server = serve(model, "--grpc-port", "0", "--max-queue-ms", "100", "--inline-below-us", "0").ready()
    with client_of(server) as client:
        client.call("ModelInfer", infer_request(FAKE_X, "fake"))
        calls = [client.method("ModelInfer").future(infer_request(FAKE_X, "fake")) for _ in range(30)]
        refused = [one for one in calls if one.exception(30) is not None]
        assert 0 < len(refused) < 30
        assert {one.code() for one in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert int(dict(refused[0].trailing_metadata())["retry-after"]) >= 1


def test_stage_times_come_as_trailing_metadata_where_they_are_asked_for(client: Client) -> None:
    call = client.method("ModelInfer")
    _, made = call.with_call(infer_request(X), timeout=30, metadata=[("x-slipway-timing", "1")])
    assert "compute" in dict(made.trailing_metadata())["server-timing"]
    _, made = call.with_call(infer_request(X), timeout=30)
    assert "server-timing" not in dict(made.trailing_metadata())


def test_a_drain_answers_what_runs_ends_open_streams_and_stops(slow: ServerProcess) -> None:
    with client_of(slow) as client:
        stub = health_pb2_grpc.HealthStub(client.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        gate: Queue[Any] = Queue()
        stream = client.stream(iter(gate.get, None))
        gate.put(infer_request(FAKE_X, "fake", id="1"))
        assert next(stream).infer_response.id == "1"
        running = client.method("ModelInfer").future(infer_request(FAKE_X, "fake"))
        gate.put(infer_request(FAKE_X, "fake", id="2"))
        eventually(lambda: slow.samples()["slipway_queue_rows"] or running.done(), "one runs and one waits")
        assert slow.stop() == 0
        assert running.result(30).outputs
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        gate.put(None)
        assert client.failure("ModelInfer", infer_request(FAKE_X, "fake"))[0] == "UNAVAILABLE"


def test_two_servers_do_not_share_a_port(serve: Serve, server: ServerProcess, tmp_path: Path) -> None:
    with client_of(server):
        port = server.log().rpartition("listening on grpc://127.0.0.1:")[2].split()[0]
    second = serve(sample_models.mlp(tmp_path / "mlp.onnx"), "--grpc-port", port)
    assert second.exit_code() == 1
    assert f"cannot listen on 127.0.0.1:{port} for gRPC" in second.log()


def test_calls_need_a_key_where_the_routes_need_one(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("secret\n")
    model = sample_models.mlp(tmp_path / "mlp.onnx")
    server = serve(model, "--grpc-port", "0", "--api-keys-file", str(tmp_path / "keys")).ready()
    with client_of(server) as client:
        assert client.call("ServerReady").ready
        for method in ("ModelInfer", "ModelMetadata", "RepositoryIndex"):
            assert client.failure(method)[0] == "UNAUTHENTICATED"
        with pytest.raises(grpc.RpcError) as caught:
            list(client.stream([infer_request(X)]))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        for pair in (("x-api-key", "secret"), ("authorization", "Bearer secret")):
            assert client.call("ModelInfer", infer_request(X), metadata=[pair]).outputs


def test_calls_are_encrypted_where_the_routes_are(serve: Serve, tmp_path: Path) -> None:
    authority, _ = certificate(tmp_path / "tls", "first")
    files = ["--tls-cert", str(authority), "--tls-key", str(authority.with_name("key.pem"))]
    server = serve(sample_models.mlp(tmp_path / "mlp.onnx"), "--grpc-port", "0", *files)
    port = grpc_port(server)
    trusted = grpc.ssl_channel_credentials(authority.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{port}", trusted, [("grpc.max_send_message_length", -1)]) as channel:
        client = Client(channel)
        eventually(lambda: client.call("ServerReady", wait_for_ready=True).ready, "it is ready")
        for rows in (1, 100_000):
            x = np.full((rows, 8), 0.5, np.float32)
            got = output_of(client.call("ModelInfer", infer_request(x)))
            np.testing.assert_allclose(got, sample_models.mlp_answer(x), rtol=1e-5)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert Client(channel).failure("ServerLive")[0] == "UNAVAILABLE"
    with socket.create_connection(("127.0.0.1", port)) as half:
        half.sendall(b"\x16\x03\x01\x02\x00\x01")  # a handshake that does not end
        assert server.stop() == 0


def test_refusals_of_the_port_count_in_the_metrics(client: Client, server: ServerProcess) -> None:
    def refused(code: str) -> float:
        return float(server.samples().get(f"slipway_refused_total{{code={code}}}", 0.0))

    before = {code: refused(code) for code in ("body_too_large", "head_too_large")}
    assert client.failure("ModelInfer", infer_request(np.zeros((300_000, 8))))[0] == "RESOURCE_EXHAUSTED"
    metadata = [(f"x-{number}", "v" * 900) for number in range(60)]
    assert client.failure("ModelInfer", infer_request(X), metadata=metadata)[0] == "RESOURCE_EXHAUSTED"
    assert {code: refused(code) - count for code, count in before.items()} == dict.fromkeys(before, 1.0)


def test_calls_of_the_asynchronous_client(server: ServerProcess) -> None:
    async def ask() -> list[Any]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port(server)}") as channel:
            infer = channel.unary_unary(
                f"/{SERVICE}/ModelInfer",
                messages.ModelInferRequest.SerializeToString,
                messages.ModelInferResponse.FromString,
            )
            return await asyncio.gather(*(infer(infer_request(X, id=str(one)), timeout=30) for one in range(300)))

    assert [one.id for one in asyncio.run(ask())] == [str(one) for one in range(300)]
