"""The target models of a multi-model endpoint: fetch, unpack, load, and evict the least recently used."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillLoading
from pathlib import Path

from .api_error import ApiError, invalid, model_error
from .call import Address, ContainerResponse, NoResponse, call
from .limits import PlatformLimits
from .model import InvalidModel, unpack

JSON = {"content-type": "application/json"}
CONCURRENT_LOADS = 4
INSUFFICIENT_STORAGE = 507
ARCHIVE = ".tar.gz"


class TargetModels:
    """The target models of a folder, by relative path; the container knows them by a hash."""

    def __init__(
        self,
        folder: Path,
        host_path: Path,
        container_path: str,
        address: Address,
        limits: PlatformLimits,
        log: Callable[[str], None],
        endpoint: str,
    ) -> None:
        """``host_path``: where models are unpacked; ``container_path``: the same folder as the container sees it."""
        self._folder = folder.resolve()
        self._host_path = host_path
        self._container_path = container_path
        self._address = address
        self._limits = limits
        self._log = log
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, str] = OrderedDict()
        self._loading: dict[str, Future[None]] = {}
        self._loads = ThreadPoolExecutor(CONCURRENT_LOADS, "load")

    @property
    def loaded(self) -> list[str]:
        """The loaded target models, the least recently used first."""
        with self._lock:
            return list(self._loaded.values())

    def close(self) -> None:
        self._loads.shutdown(wait=False, cancel_futures=True)

    def verify_protocol(self) -> None:
        """List the models, as the platform does before the first load. Raises ApiError for another status than 200."""
        response = self._request("GET", "/models", b"", self._limits.response_s)
        if response.status != 200:
            raise model_error(response.status, response.body, self._endpoint)

    def invoke(self, target: str, send: Callable[[str], ContainerResponse]) -> ContainerResponse:
        """Load ``target`` if necessary and ``send`` to its path in the container. Raises ApiError."""
        for _ in range(2):
            name = self.use(target)
            response = send(f"/models/{name}/invoke")
            if response.status != 404 or self._is_loaded(name):
                break  # evicted between load and request: load it again
        return response

    def use(self, target: str) -> str:
        """The container's name of a target model, once it is loaded. Raises ApiError.

        A load that takes longer than the limit goes on, and the caller gets ModelNotReadyException.
        """
        source = self._source(target)
        name = hashlib.sha256(target.encode()).hexdigest()[:32]
        with self._lock:
            if name in self._loaded:
                self._loaded.move_to_end(name)
                return name
            waiting = self._loading.get(name)
            if waiting is None:
                waiting = self._loading[name] = self._loads.submit(self._load, name, target, source)
        try:
            waiting.result(self._limits.load_answer_s)
        except StillLoading as error:
            raise ApiError(
                "ModelNotReadyException",
                f"Model {target} is still being loaded after {self._limits.load_answer_s:g} s; try again later",
            ) from error
        return name

    def _is_loaded(self, name: str) -> bool:
        with self._lock:
            return name in self._loaded

    def _source(self, target: str) -> Path:
        found = (self._folder / target.lstrip("/")).resolve()
        if not found.exists() and found.name.endswith(ARCHIVE):
            found = found.with_name(found.name.removesuffix(ARCHIVE))  # a folder stands for its archive
        if not found.is_relative_to(self._folder) or not found.exists() or found == self._folder:
            raise invalid(f"TargetModel {target}: no such model in {self._folder}")
        return found

    def _load(self, name: str, target: str, source: Path) -> None:
        try:
            self._fetch(source, self._host_path / name / "model")
            body = json.dumps({"model_name": name, "url": f"{self._container_path}/{name}/model"}).encode()
            while True:
                response = self._request("POST", "/models", body, self._limits.load_s)
                if response.status != INSUFFICIENT_STORAGE or not self._evict(target):
                    break
            if response.status not in (200, 409):
                raise model_error(response.status, response.body, self._endpoint)
            with self._lock:
                self._loaded[name] = target
            self._log(f"loaded {target}")
        finally:
            with self._lock:
                del self._loading[name]

    def _fetch(self, source: Path, unpacked: Path) -> None:
        if unpacked.exists():
            return
        partial = unpacked.with_name("partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            if source.is_dir():
                shutil.copytree(source, partial)
            else:
                partial.mkdir(parents=True)
                unpack(source, partial)
        except InvalidModel as error:
            raise invalid(str(error)) from error
        partial.rename(unpacked)

    def _evict(self, wanted: str) -> bool:
        """Unload the least recently used model. False when no model is loaded."""
        with self._lock:
            if not self._loaded:
                return False
            name, target = self._loaded.popitem(last=False)
        response = self._request("DELETE", f"/models/{name}", b"", self._limits.response_s)
        if response.status not in (200, 404):
            raise model_error(response.status, response.body, self._endpoint)
        self._log(f"unloaded {target}: no memory for {wanted}")
        return True

    def _request(self, method: str, path: str, body: bytes, within_s: float) -> ContainerResponse:
        headers: Mapping[str, str] = JSON if body else {}
        try:
            return call(self._address, method, path, headers, body, within_s=within_s)
        except NoResponse as error:
            raise model_error(0, str(error), self._endpoint) from error
