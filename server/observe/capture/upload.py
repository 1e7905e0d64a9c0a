"""Uploads of complete capture files to S3. Files that could not be uploaded stay in the folder and are tried again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

log = logging.getLogger("slipway.capture")


class Uploads:
    """Moves files from a folder to a bucket. One thread uses it."""

    def __init__(self, bucket: str, prefix: str, root: Path, client: Callable[[], Any]) -> None:
        """``client`` makes the S3 client at the first upload."""
        self.failed = 0
        self.bucket = bucket
        self._prefix = prefix
        self._root = root
        self._make = client
        self._client: Any = None
        self._waiting: list[Path] = []
        self._told = False

    def add(self, path: Path) -> None:
        """Upload a complete file at the next :meth:`run`."""
        self._waiting.append(path)

    def run(self) -> None:
        """Upload all complete files and delete them here. Ends at the first failure, which is logged once."""
        while self._waiting:
            path = self._waiting[0]
            if path.is_file():  # else the bound of the folder deleted it
                try:
                    if self._client is None:
                        self._client = self._make()
                    self._client.upload_file(str(path), self.bucket, self.key(path))
                except Exception as error:  # noqa: BLE001 - many kinds: credentials, network, service
                    self.failed += 1
                    if not self._told:
                        log.warning("uploading a capture file failed, it is kept bucket=%s: %s", self.bucket, error)
                    self._told = True
                    return
                path.unlink(missing_ok=True)
                self._told = False
            self._waiting.pop(0)

    def key(self, path: Path) -> str:
        """The object's key: the prefix and the path below the folder."""
        return "/".join(part for part in (self._prefix, path.relative_to(self._root).as_posix()) if part)


def s3_client() -> Any:
    """A client with the credentials and the region of the process. Raises ImportError without boto3."""
    import boto3  # type: ignore[import-not-found, unused-ignore]

    return boto3.client("s3")


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """Bucket and key prefix of ``s3://BUCKET/PREFIX``."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, prefix.strip("/")
