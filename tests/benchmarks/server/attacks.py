"""Attacks: the worst legal and illegal bodies of every codec, and the latency of /ping beside each of them."""

from __future__ import annotations

import gzip
import http.client
import io
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from server.codecs.recordio import MAGIC_BYTES
from tests.benchmarks.server.processes import PATIENCE_S, free_port, resident_bytes, served, slipway

BODY_BYTES = 29_000_000
"""Size of a body: the limit of the server is 30 MB."""

PING_S = 0.005
"""Time between two pings."""

WANTED_S = 0.05

JSON, CSV, LINES = "application/json", "text/csv", "application/jsonlines"
NPY, NPZ, RECORDS = "application/x-npy", "application/x-npz", "application/x-recordio-protobuf"
BINARY = "application/vnd.sagemaker-triton.binary+json"


@dataclass(frozen=True, slots=True)
class Attack:
    """One request to ``/invocations`` of a model: ``floats`` [any, any], ``words`` (text) [any, any]."""

    name: str
    model: str
    content_type: str
    body: Callable[[], bytes]
    accept: str = JSON
    encoding: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What an attack did: its status, its duration, the latencies of /ping meanwhile, and the memory that it took."""

    status: int
    took_s: float
    pings_s: list[float]
    grown_bytes: int


def attacks(work: Path, rounds: int, _seconds: float) -> None:
    """Send every attack once and print the slowest and the p99 of /ping beside it, and the growth of memory."""
    folder = work / "models"
    for name, kind in (("floats", TensorProto.FLOAT), ("words", TensorProto.STRING)):
        write_identity(folder / name / "1" / "model.onnx", kind)
    every: list[float] = []
    for model in ("floats", "words"):
        port = free_port()
        flags = ("--default-model", model, "--inline-below-us", "0")
        with served(slipway(folder, port, *flags), port, work / "slipway.log", "0,1") as process:
            before = resident_bytes(process.pid)
            for attack in (one for one in ATTACKS if one.model == model):
                seen = measure(port, process.pid, attack)
                every += seen.pings_s
                print(
                    f"attacks: {attack.name:34} {seen.status} after {seen.took_s:6.2f} s: /ping p99 "
                    f"{np.quantile(seen.pings_s, 0.99) * 1e3:6.1f} ms, slowest {max(seen.pings_s) * 1e3:6.1f} ms; "
                    f"+{seen.grown_bytes / 1e6:.0f} MB",
                    flush=True,
                )
            after = resident_bytes(process.pid)
        print(f"attacks: {model}: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
    print(f"attacks: /ping p99 over all: {np.quantile(every, 0.99) * 1e3:.1f} ms (wanted: {WANTED_S * 1e3:g} ms)")


def measure(port: int, pid: int, attack: Attack) -> Seen:
    """Send one attack and /ping beside it until it is answered."""
    body = attack.body()
    headers = {"Content-Type": attack.content_type, "Accept": attack.accept}
    if attack.encoding:
        headers["Content-Encoding"] = attack.encoding
    answer: list[int] = []
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak of resident memory begins anew
    before = resident_bytes(pid)
    begun = time.perf_counter()
    sender = threading.Thread(target=_send, args=(port, body, headers, answer), daemon=True)
    sender.start()
    pings: list[float] = []
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    while sender.is_alive() or not pings:
        sent = time.perf_counter()
        client.request("GET", "/ping")
        client.getresponse().read()
        pings.append(time.perf_counter() - sent)
        time.sleep(PING_S)
    client.close()
    return Seen(answer[0], time.perf_counter() - begun, pings, peak_bytes(pid) - before)


def peak_bytes(pid: int) -> int:
    """The most resident memory of a process since its peak was reset."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise ValueError("no VmHWM")


def _send(port: int, body: bytes, headers: dict[str, str], answer: list[int]) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        client.request("POST", "/invocations", body, headers)
        response = client.getresponse()
        while response.read(1 << 20):
            pass
        answer.append(response.status)
    except OSError:
        answer.append(0)
    finally:
        client.close()


def write_identity(path: Path, kind: int) -> None:
    """A model that returns its input, [any, any] of one type."""
    tensors = [helper.make_tensor_value_info(name, kind, ["n", "w"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", tensors[:1], tensors[1:])
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def repeated(begin: bytes, piece: bytes, end: bytes, size: int = BODY_BYTES) -> Callable[[], bytes]:
    """A body of about ``size`` bytes out of one piece."""
    return lambda: begin + piece * ((size - len(begin) - len(end)) // len(piece)) + end


def npy(shape: tuple[int, ...], dtype: str, values: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + values


def npz(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def record(content: bytes) -> bytes:
    """A framed record with one feature ``values`` of this ``Value``."""
    entry = sized(1, b"values") + sized(2, content)
    whole = sized(1, entry)
    return MAGIC_BYTES + struct.pack("<I", len(whole)) + whole + bytes(-len(whole) % 4)


def sized(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def tensor(data: bytes) -> bytes:
    """An Open Inference request whose data are these."""
    return b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,%d],"data":[' % (data.count(b",") + 1) + data + b"]}]}"


def framed_words() -> bytes:
    count = BODY_BYTES // 5
    text = b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[1,%d],"parameters":{"binary_data_size":%d}}]}'
    return (text % (count, count * 5)).ljust(100) + b"\x01\x00\x00\x00a" * count


def _all() -> Iterator[Attack]:
    floats = "floats"
    yield Attack("json: one row of numbers", floats, JSON, repeated(b'{"instances":[[0.5', b",0.5", b"]]}"))
    yield Attack("json: long numbers", floats, JSON, repeated(b"[[0.5", b",0.12345678901234567", b"]]"))
    yield Attack("json: narrow rows", floats, JSON, repeated(b'{"instances":[[1]', b",[1]", b"]}"))
    yield Attack("json: empty rows", floats, JSON, repeated(b'{"instances":[[]', b",[]", b"]}"))
    yield Attack("json: empty objects", floats, JSON, repeated(b'{"instances":[{}', b",{}", b"]}"))
    yield Attack("json: a wrong last value", floats, JSON, repeated(b"[[1", b",1", b',"x"]]'))
    yield Attack("json: cut off", floats, JSON, repeated(b"[[1", b",1", b""))
    yield Attack("json: NaN", floats, JSON, repeated(b"[[NaN", b",NaN", b"]]"))
    yield Attack("json: true", floats, JSON, repeated(b"[[true", b",true", b"]]"))
    yield Attack("json: null", floats, JSON, repeated(b"[[null", b",null", b"]]"))
    yield Attack("json: columns of rows", floats, JSON, repeated(b'{"inputs":[[1]', b",[1]", b"]}"))
    yield Attack("json: records", floats, JSON, repeated(b'[{"x":[1]}', b',{"x":[1]}', b"]"))
    yield Attack("json: unknown names", floats, JSON, repeated(b'{"a":1', b',"a":1', b"}"))
    yield Attack("json: brackets", floats, JSON, repeated(b"", b"[", b""))
    yield Attack("json: spaces", floats, JSON, repeated(b"", b" ", b""))
    yield Attack("json: Open Inference", floats, JSON, lambda: tensor(b"0" + b",0" * (BODY_BYTES // 2 - 100)))
    yield Attack("csv: one row", floats, CSV, repeated(b"1", b",1", b""))
    yield Attack("csv: one column", floats, CSV, repeated(b"", b"1\n", b""))
    yield Attack("csv: a wrong last cell", floats, CSV, repeated(b"", b"1\n", b"x\n"))
    yield Attack("csv: quoted cells", floats, CSV, repeated(b'"1"', b',"1"', b""))
    yield Attack("csv: empty lines", floats, CSV, repeated(b"1", b"\n", b"1"))
    yield Attack("csv: an open quote", floats, CSV, repeated(b'"', b"\n", b""))
    yield Attack("json lines: short lines", floats, LINES, repeated(b"", b"[1]\n", b""))
    yield Attack("json lines: one line", floats, LINES, repeated(b"[1", b",1", b"]\n"))
    yield Attack("json lines: empty lines", floats, LINES, repeated(b"[1]", b"\n", b"[1]"))
    values = bytes(BODY_BYTES // 8 * 8)
    yield Attack("npy: one row", floats, NPY, lambda: npy((1, len(values) // 4), "<f4", values), NPY)
    yield Attack("npy: rows in JSON", floats, NPY, lambda: npy((1, len(values) // 4), "<f4", values))
    yield Attack("npy: rows in CSV", floats, NPY, lambda: npy((1, len(values) // 4), "<f4", values), CSV)
    yield Attack("npy: rows in RecordIO", floats, NPY, lambda: npy((1, len(values) // 4), "<f4", values), RECORDS)
    yield Attack("npy: narrow rows", floats, NPY, lambda: npy((len(values) // 4, 1), "<f4", values))
    yield Attack("npy: a cast", floats, NPY, lambda: npy((1, len(values) // 8), ">f8", values), NPY)
    yield Attack("npy: text", floats, NPY, lambda: npy((1, len(values) // 4), "<U1", values), NPY)
    yield Attack("npz: inflates", floats, NPZ, lambda: npz({"x.npy": npy((1, 25_000_000), "<f4", bytes(100_000_000))}))
    yield Attack("npz: inflates too far", floats, NPZ, lambda: npz({"x.npy": bytes(400_000_000)}))
    yield Attack("npz: many members", floats, NPZ, lambda: npz({f"{index}": b"" for index in range(60_000)}))
    yield Attack("RecordIO: empty records", floats, RECORDS, repeated(b"", MAGIC_BYTES + bytes(4), b""))
    one = record(sized(2, sized(1, struct.pack("<f", 1))))
    yield Attack("RecordIO: narrow rows", floats, RECORDS, repeated(b"", one, b""))
    yield Attack("RecordIO: one row", floats, RECORDS, lambda: record(sized(2, sized(1, values))))
    yield Attack("RecordIO: varints", floats, RECORDS, lambda: record(sized(7, sized(1, b"\x01" * BODY_BYTES))))
    yield Attack("RecordIO: keys", floats, RECORDS, lambda: record(sized(2, sized(2, b"\x01" * BODY_BYTES))))
    fields = b"\x08\x01" * (BODY_BYTES // 2)
    yield Attack("RecordIO: unknown fields", floats, RECORDS, lambda: record(fields))
    sparse = sized(1, b"\x00\x00\x80\x3f") + sized(2, b"\x00") + sized(3, varint(1 << 25))
    yield Attack("RecordIO: sparse rows", floats, RECORDS, lambda: record(sized(2, sparse)) * 1_000)
    yield Attack("gzip: JSON", floats, JSON, lambda: gzip.compress(b"[[1" + b",1" * 14_000_000 + b"]]"), JSON, "gzip")
    yield Attack("gzip: members", floats, JSON, lambda: gzip.compress(b"") * (BODY_BYTES // 20), JSON, "gzip")
    yield Attack("gzip: a bomb", floats, JSON, lambda: gzip.compress(bytes(1 << 30), 1), JSON, "gzip")
    yield Attack("deflate: not deflate", floats, JSON, lambda: zlib.compress(b"", 0) + values, JSON, "deflate")
    words = "words"
    yield Attack("words: json", words, JSON, repeated(b'[["a"', b',"a"', b"]]"))
    yield Attack("words: json, one word", words, JSON, repeated(b'[["', b"a", b'"]]'))
    yield Attack("words: json, escapes", words, JSON, repeated(b'[["', b"\\u00e9", b'"]]'))
    yield Attack("words: json, narrow rows", words, JSON, repeated(b'[["a"]', b',["a"]', b"]"))
    yield Attack("words: json, base64", words, JSON, repeated(b'[[{"b64":"', b"YWFh", b'"}]]'))
    yield Attack("words: json, many in base64", words, JSON, repeated(b'[[{"b64":""}', b',{"b64":""}', b"]]"))
    yield Attack("words: csv", words, CSV, repeated(b"a", b",a", b""))
    yield Attack("words: csv, doubled quotes", words, CSV, repeated(b'"', b'""', b'"'))
    yield Attack("words: npy", words, NPY, lambda: npy((1, BODY_BYTES // 4), "<U1", b"a\0\0\0" * (BODY_BYTES // 4)))
    yield Attack("words: npy, wide zeros", words, NPY, lambda: npy((1, 1), f"<U{BODY_BYTES // 4}", bytes(BODY_BYTES)))
    yield Attack("words: binary", words, BINARY + ";json-header-size=100", framed_words)
    yield Attack("words: RecordIO", words, RECORDS, lambda: record(sized(9, sized(1, b"a") * (BODY_BYTES // 3))))
    yield Attack("words: text", words, "text/plain", repeated(b"", "é".encode(), b""))


ATTACKS = tuple(_all())
