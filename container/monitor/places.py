"""Places: files of a folder or of an S3 prefix, read line by line with bounds, and results that are written there."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from .errors import MonitorError

HOUR = re.compile(r"(?:^|/)(\d{4})/(\d\d)/(\d\d)/(\d\d)/")
MAX_LINE_BYTES = 20_000_000
"""Longer lines are skipped and counted; a record of a 6 MB body in base64 has 16 MB."""
SUFFIXES = (".jsonl", ".json", ".csv", ".jsonl.gz", ".csv.gz")
Client = Callable[[], Any]


@dataclass(slots=True)
class Place:
    """A file, a folder, or an ``s3://BUCKET/PREFIX``. ``client`` makes the S3 client where one is needed.

    ``start`` and ``end`` limit files in ``yyyy/mm/dd/hh`` folders to hours from ``start`` up to before ``end``.
    """

    url: str
    client: Client
    start: datetime | None = None
    end: datetime | None = None
    long_lines: int = 0
    broken_files: int = 0
    files: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """(file name, line) of all files, by name. Raises MonitorError if there is nothing to read."""
        found = False
        for name, stream in self._streams():
            found = True
            self.files.append(name)
            with stream:
                try:
                    for line in self._bounded(stream):
                        yield name, line
                except (OSError, EOFError, zlib.error):  # a compressed file that is cut off, or a disk that fails
                    self.broken_files += 1
        if not found:
            raise MonitorError(f"{self.url} has no .jsonl, .json or .csv files in this time; name another place")

    def _bounded(self, stream: BinaryIO) -> Iterator[bytes]:
        while line := stream.readline(MAX_LINE_BYTES):
            if line.endswith(b"\n") or len(line) < MAX_LINE_BYTES:
                yield line
                continue
            self.long_lines += 1
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE_BYTES)

    def _streams(self) -> Iterator[tuple[str, BinaryIO]]:
        if self.url.startswith("s3://"):
            yield from self._objects()
            return
        root = Path(self.url)
        if root.is_file():
            yield root.name, _open(root)
            return
        if not root.is_dir():
            raise MonitorError(f"{self.url} is no file and no folder")
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if self._wanted(name) and path.is_file():
                yield name, _open(path)

    def _objects(self) -> Iterator[tuple[str, BinaryIO]]:
        bucket, prefix = split(self.url)
        client = self.client()
        keys: list[str] = []
        try:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                keys += [one["Key"] for one in page.get("Contents", ())]
        except Exception as error:  # the client's own classes, made at run time
            raise MonitorError(f"{self.url} cannot be listed: {error}") from error
        for key in sorted(keys):
            name = key.removeprefix(prefix).lstrip("/") or key
            if self._wanted(name) or key == prefix:
                try:
                    body = client.get_object(Bucket=bucket, Key=key)["Body"]
                except Exception as error:
                    raise MonitorError(f"s3://{bucket}/{key} cannot be read: {error}") from error
                yield name, _opened(name, io.BufferedReader(Raw(body), 1 << 20))

    def _wanted(self, name: str) -> bool:
        if not name.endswith(SUFFIXES) or any(part.startswith(".") for part in name.split("/")):
            return False
        hour = HOUR.search(name)
        if hour is None or (self.start is None and self.end is None):
            return True
        try:
            at = datetime(*(int(part) for part in hour.groups()), tzinfo=UTC)  # type: ignore[arg-type, misc]
        except ValueError:
            return True
        return (self.start is None or at >= self.start) and (self.end is None or at < self.end)


class Raw(io.RawIOBase):
    """The body of an S3 object as a raw stream."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _open(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _opened(name: str, stream: BinaryIO) -> BinaryIO:
    return gzip.GzipFile(fileobj=stream) if name.endswith(".gz") else stream  # type: ignore[return-value]


def read_text(url: str, client: Client) -> str:
    """A text file of a folder or of S3. Raises MonitorError if there is none."""
    try:
        if url.startswith("s3://"):
            bucket, key = split(url)
            return str(client().get_object(Bucket=bucket, Key=key)["Body"].read().decode())
        return Path(url).read_text(encoding="utf-8")
    except Exception as error:
        raise MonitorError(f"{url} cannot be read: {error}") from error


def write_text(folder: str, name: str, text: str, client: Client) -> None:
    """Write a text file into a folder or below an S3 prefix, at once. Raises MonitorError."""
    try:
        if folder.startswith("s3://"):
            bucket, prefix = split(folder)
            key = f"{prefix.rstrip('/')}/{name}".lstrip("/")
            client().put_object(Bucket=bucket, Key=key, Body=text.encode())
            return
        target = Path(folder) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{name}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    except Exception as error:
        raise MonitorError(f"{name} cannot be written to {folder}: {error}") from error


def split(url: str) -> tuple[str, str]:
    """Bucket and key of an S3 URL."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not bucket:
        raise MonitorError(f"{url} names no bucket; write s3://BUCKET/PREFIX")
    return bucket, key


def s3_client() -> Any:
    """An S3 client with the credentials of the environment. Raises MonitorError without boto3."""
    try:
        import boto3
    except ImportError as error:
        raise MonitorError("S3 locations need boto3; install the extra s3") from error
    return boto3.client("s3")
