"""Requests that poison a listing, are never answered, or cost far more than their bytes, sent over raw sockets."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator

import pytest

from server.codecs.recordio import MAGIC_BYTES
from tests.integration import sample_models
from tests.integration.server_process import ServerProcess, read_to_end, server_process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("hostile")
    model = sample_models.variable_width(directory / "wide" / "model.onnx")
    sample_models.variable_width(tmp_path_factory.getbasetemp() / "loadable" / "model.onnx")
    with server_process(directory, model.parent, "--admin", "--name", "wide", "--max-rows", "1000") as process:
        yield process.ready()


def wire(method: str, path: str, body: bytes = b"", *fields: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: a", "Connection: close", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


def admin(**fields: object) -> bytes:
    return wire("POST", "/admin/models", json.dumps(fields).encode(), "Content-Type: application/json")


def infer(content_type: str, body: bytes, *fields: str) -> bytes:
    return wire("POST", "/invocations", body, f"Content-Type: {content_type}", *fields)


def npy(shape: str, descr: str, values: bytes = b"") -> bytes:
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + values


def bomb(size: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(size))
    return file.getvalue()


def sparse_record(size: int) -> bytes:
    """A record of one value and one key, in a row of ``size`` values."""
    shape = b""
    while size > 0x7F:
        shape += bytes([size & 0x7F | 0x80])
        size >>= 7
    shape += bytes([size])
    tensor = b"\x0a\x01\x05\x12\x01\x03\x1a" + bytes([len(shape)]) + shape
    value = b"\x3a" + bytes([len(tensor)]) + tensor
    entry = b"\x0a\x06values\x12" + bytes([len(value)]) + value
    record = b"\x0a" + bytes([len(entry)]) + entry
    return MAGIC_BYTES + struct.pack("<I", len(record)) + record + bytes(-len(record) % 4)


HERE = "HERE"
"""Stands for the folder of a model that can be loaded."""

V2 = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[0,%d],"data":[]}]}'

REQUESTS = {
    "HEAD of an admin route": (wire("HEAD", "/admin/models"), 405),
    "a long version": (admin(path=HERE, name="f", version="9" * 4_301), 400),
    "a surrogate as version": (admin(path=HERE, name="f", version="\ud800"), 400),
    "NUL in a path": (admin(path="/x\0y", name="f"), 404),
    "a long path": (admin(path="/" + "a" * 300, name="f"), 422),
    "a path of many parts": (admin(path="/a" * 2_000, name="f"), 404),
    "another page's request": (wire("POST", "/v2/repository/models/wide/unload", b"", "Origin: http://b"), 403),
    "characters that are none": (infer("application/x-npy", npy("(1, 1)", "<U1", b"\0\0\x11\0")), 400),
    "a shape of no array": (infer("application/x-npy", npy(f"(0, {10**30})", "<i8")), 400),
    "an archive that expands": (infer("application/x-npz", bomb(200_000_000)), 400),
    "a sparse record that expands": (infer("application/x-recordio-protobuf", sparse_record(1 << 26)), 400),
    "a priority of many digits": (infer("application/json", b"[[1]]", "X-Request-Priority: " + "1" * 5_000), 400),
    "an Open Inference shape": (
        wire("POST", "/v2/models/wide/infer", V2 % 2**62, "Content-Type: application/json"),
        400,
    ),
    "a large body to no route": (wire("POST", "/nowhere", bytes(2_000_000)), 404),
    "a large body that is not JSON": (infer("application/json", b"[[" + b"1," * 600_000), 400),
    "many rows": (infer("text/csv", b"1\n" * 1_001), 413),
    "millions of empty lists": (infer("application/json", b"[[]" + b",[]" * 5_000_000 + b"]"), 413),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_hostile_request_is_the_client_s_error(
    server: ServerProcess, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    request, status = REQUESTS[name]
    _, _, body = request.partition(b"\r\n\r\n")
    if b'"HERE"' in body:
        path = json.dumps(str(tmp_path_factory.getbasetemp() / "loadable")).encode()
        request = wire("POST", "/admin/models", body.replace(b'"HERE"', path), "Content-Type: application/json")
    client = server.connect()
    client.sendall(request)
    answer = read_to_end(client)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:300]


def test_afterwards_the_server_is_as_before(server: ServerProcess) -> None:
    assert server.get("/metrics").status == 200
    (model,) = [one for one in server.get("/admin/models").json() if one["name"] == "wide"]
    assert [one["state"] for one in model["versions"]] == ["READY"]
    assert server.post("/invocations", [[1.0]]).json() == [[3.0]]
    assert "Traceback" not in server.log()
