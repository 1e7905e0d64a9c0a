"""A gRPC client for tests: one channel to a server process, and the calls by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np

from server.grpc import inference_pb2 as messages
from tests.integration.server_process import PATIENCE_S, ServerProcess, eventually

SERVICE = "/inference.GRPCInferenceService/"


def grpc_port(server: ServerProcess) -> int:
    """The port that the server says it listens on for gRPC."""
    found = eventually(lambda: re.search(r"listening on grpcs?://\S+:(\d+)", server.log()), "it listens for gRPC")
    return int(found[1])


class Client:
    """Calls by the name of their method; requests and responses are messages."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def call(self, method: str, request: Any = None, timeout_s: float = PATIENCE_S, **options: Any) -> Any:
        """The response of a unary call. Raises grpc.RpcError."""
        return self.method(method)(request or _kind(method, "Request")(), timeout=timeout_s, **options)

    def method(self, method: str) -> Any:
        """The callable of a unary method, for futures and for metadata."""
        return self.channel.unary_unary(
            SERVICE + method, _kind(method, "Request").SerializeToString, _kind(method, "Response").FromString
        )

    def stream(self, requests: Iterable[Any], timeout_s: float = PATIENCE_S) -> Any:
        """ModelStreamInfer: an iterator of responses."""
        call = self.channel.stream_stream(
            SERVICE + "ModelStreamInfer",
            messages.ModelInferRequest.SerializeToString,
            messages.ModelStreamInferResponse.FromString,
        )
        return call(iter(requests), timeout=timeout_s)

    def failure(self, method: str, request: Any = None, **options: Any) -> tuple[str, str]:
        """The name of the code and the details of a call that must fail."""
        try:
            response = self.call(method, request, **options)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        raise AssertionError(f"{method} has succeeded: {response}")


@contextmanager
def client_of(server: ServerProcess, **options: Any) -> Iterator[Client]:
    """A client on a channel of its own, without a limit on messages."""
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    options.setdefault("options", limits)
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port(server)}", **options) as channel:
        yield Client(channel)


def infer_request(array: np.ndarray, model: str = "mlp", **fields: Any) -> messages.ModelInferRequest:
    """A request of one FP32 input, raw."""
    raw = [np.ascontiguousarray(array, "<f4").tobytes()]
    request = messages.ModelInferRequest(model_name=model, raw_input_contents=raw, **fields)
    request.inputs.add(name="x", datatype="FP32", shape=array.shape)
    return request


def output_of(response: messages.ModelInferResponse) -> np.ndarray:
    """The first output of a response, FP32."""
    return np.frombuffer(response.raw_output_contents[0], "<f4").reshape(response.outputs[0].shape)


def _kind(method: str, suffix: str) -> Any:
    return getattr(messages, method + suffix)
