"""API keys and TLS over the socket: what is open, what is refused, and files that are renewed while the server runs."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.grpc_client import grpc_port
from tests.integration.server_process import JSON, ServerProcess, eventually, instances

ROWS = instances([1.0] * 4)
KEY = {"X-API-Key": "first"}
OPEN = ["/ping", "/v2/health/live", "/v2/health/ready", "/"]
CLOSED = [
    ("POST", "/invocations"),
    ("POST", "/invocations?cold=1"),
    ("POST", "/v2/models/fake/infer"),
    ("GET", "/v2"),
    ("GET", "/v2/models/fake/ready"),
    ("GET", "/v1/models"),
    ("POST", "/v1/models/fake:predict"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/admin/models"),
    ("POST", "/v2/repository/index"),
    ("GET", "/no/such/route"),
    ("GET", "/ping/../metrics"),
    ("GET", "/%6detrics"),
]


@pytest.fixture
def keyed(serve: Serve, tmp_path: Path) -> ServerProcess:
    (tmp_path / "keys").write_text("first\nsecond\n")
    return serve(sample_models.fake(tmp_path / "m"), "--api-keys-file", str(tmp_path / "keys")).ready()


def test_only_health_is_open_without_a_key(keyed: ServerProcess) -> None:
    for path in OPEN:
        for variant in (path, path + "?cold=1"):
            assert keyed.get(variant).status == 200, variant
    for method, path in CLOSED:
        refused = keyed.request(method, path, ROWS if method == "POST" else None, JSON)
        assert (refused.status, refused.code) == (401, "unauthorized"), path
        assert refused.headers["www-authenticate"] == "Bearer"
        allowed = keyed.request(method, path, ROWS if method == "POST" else None, {**JSON, **KEY})
        assert allowed.status != 401, path
    assert keyed.post("/invocations", ROWS, {**JSON, "Authorization": "Bearer second"}).status == 200
    assert keyed.post("/invocations", ROWS, {**JSON, "Authorization": "Bearer third"}).status == 401
    metrics = keyed.get("/metrics", **KEY).body.decode()
    assert f'slipway_refused_total{{code="unauthorized"}} {len(CLOSED) + 1:.1f}' in metrics


def test_keys_are_renewed_without_a_restart(keyed: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("not a key\n")
    eventually(lambda: "cannot be used" in keyed.log(), "the log says that the file cannot be used")
    assert keyed.post("/invocations", ROWS, {**JSON, **KEY}).status == 200
    (tmp_path / "keys").write_text("third\n")
    eventually(
        lambda: keyed.post("/invocations", ROWS, {**JSON, "X-API-Key": "third"}).status == 200, "the new key works"
    )
    assert keyed.post("/invocations", ROWS, {**JSON, **KEY}).status == 401


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(*form))
    return folder / "cert.pem", folder / "key.pem"


def connect(server: ServerProcess, trusted: Path) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(trusted))
    return http.client.HTTPSConnection("127.0.0.1", server.port, timeout=30, context=context)


def ask(client: http.client.HTTPConnection, body: bytes = ROWS, path: str = "/invocations") -> tuple[int, bytes]:
    client.request("POST", path, body, JSON)
    response = client.getresponse()
    return response.status, response.read()


def trusts(server: ServerProcess, trusted: Path) -> bool:
    """Whether a new connection sees this certificate."""
    client = connect(server, trusted)
    try:
        return ask(client)[0] == 200
    except ssl.SSLCertVerificationError:
        return False
    finally:
        client.close()


def test_tls_serves_hot_and_cold_routes_and_large_bodies(serve: Serve, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "tls", "one")
    server = serve(sample_models.fake(tmp_path / "m"), "--tls-cert", str(cert), "--tls-key", str(key)).listen()
    client = connect(server, cert)
    eventually(lambda: ask(client)[0] == 200, "it answers over TLS")
    assert json.loads(ask(client, path="/invocations?cold=1")[1]) == {"predictions": [[2.0] * 4]}
    many = instances(*[[1.0] * 4] * 40_000)
    assert len(json.loads(ask(client, many)[1])["predictions"]) == 40_000
    client.close()
    assert "Traceback" not in server.log()
    with socket.create_connection(("127.0.0.1", server.port), 30) as plain:
        plain.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP/1.1 200")
    assert trusts(server, cert)


def test_a_client_that_ends_a_tls_connection_early_is_a_client_that_has_left(serve: Serve, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "tls", "one")
    model = sample_models.fake(tmp_path / "m", wait_us=300_000)
    server = serve(model, "--tls-cert", str(cert), "--tls-key", str(key)).listen()
    eventually(lambda: trusts(server, cert), "it answers over TLS")
    client = connect(server, cert)
    client.request("POST", "/invocations", ROWS, JSON)
    assert isinstance(client.sock, ssl.SSLSocket)
    client.sock.unwrap().close()
    assert trusts(server, cert)
    assert "has no effect" not in server.log()
    assert "Traceback" not in server.log()
    assert server.stop() == 0


def test_a_tls_handshake_has_as_long_as_the_head_of_a_request(serve: Serve, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "tls", "one")
    files = ["--tls-cert", str(cert), "--tls-key", str(key)]
    limit = ["--read-timeout-s", "0.3", "--grpc-port", "0"]
    server = serve(sample_models.fake(tmp_path / "m"), *files, *limit).listen()
    eventually(lambda: trusts(server, cert), "it answers over TLS")
    for port in (server.port, grpc_port(server)):
        for sent in (b"", b"\x16\x03\x01\x02\x00\x01"):
            with socket.create_connection(("127.0.0.1", port), 20) as half:  # without our limit it is open for 60 s
                half.sendall(sent)
                assert half.recv(100) == b""
    assert trusts(server, cert)
    assert server.stop() == 0
    assert "Traceback" not in server.log()


def test_new_connections_get_the_renewed_certificate(serve: Serve, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "tls", "one")
    server = serve(sample_models.fake(tmp_path / "m"), "--tls-cert", str(cert), "--tls-key", str(key)).listen()
    eventually(lambda: trusts(server, cert), "it answers over TLS")
    old = connect(server, cert)
    assert ask(old)[0] == 200
    fresh, its_key = certificate(tmp_path / "fresh", "two")
    first, first_key = cert.read_bytes(), fresh.read_bytes()
    cert.write_bytes(first_key)  # the key is still the old one: they do not fit
    eventually(lambda: "cannot be used" in server.log(), "the log says that they do not fit")
    (tmp_path / "first.pem").write_bytes(first)
    assert trusts(server, tmp_path / "first.pem")
    its_key.replace(key)
    eventually(lambda: trusts(server, fresh), "a new connection gets the new certificate")
    assert not trusts(server, tmp_path / "first.pem")
    assert ask(old)[0] == 200  # an open connection stays
    old.close()


@pytest.mark.parametrize(
    ("flags", "environ", "named"),
    [
        (["--api-keys-file", "/no/such/file"], {}, "--api-keys-file"),
        (["--tls-cert", "/no/such/file"], {}, "--tls-cert"),
        (["--tls-key", "/no/such/file"], {}, "--tls-key needs --tls-cert"),
        (["--api-keys-file", "keys"], {"SAGEMAKER_REGION": "x"}, "SageMaker"),
        (["--tls-cert", "cert"], {"SAGEMAKER_REGION": "x"}, "SageMaker"),
    ],
)
def test_settings_that_cannot_be_obeyed_end_the_start(
    serve: Serve, tmp_path: Path, flags: list[str], environ: dict[str, str], named: str
) -> None:
    server = serve(sample_models.fake(tmp_path / "m"), *flags, environ=environ)
    assert server.exit_code() == 1
    assert named in server.log().splitlines()[-1]
