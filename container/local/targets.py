"""The platform's part of a multi-model endpoint: fetch, unpack, load, evict by least recent use, and load again."""

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

from .call import Address, Answer, NoAnswer, call
from .limits import Limits
from .model import BadModel, unpack
from .refusal import Refusal, invalid, model_error

JSON = {"content-type": "application/json"}
LOADS_AT_ONCE = 4
TOO_LARGE = 507


class Targets:
    """The models of a folder, by their relative paths; in the container under opaque names."""

    def __init__(
        self,
        folder: Path,
        here: Path,
        there: str,
        address: Address,
        limits: Limits,
        tell: Callable[[str], None],
        endpoint: str,
    ) -> None:
        """``here``: where models are unpacked; ``there``: the same folder as the container sees it."""
        self._folder = folder.resolve()
        self._here = here
        self._there = there
        self._address = address
        self._limits = limits
        self._tell = tell
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, str] = OrderedDict()
        self._loading: dict[str, Future[None]] = {}
        self._loads = ThreadPoolExecutor(LOADS_AT_ONCE, "load")

    @property
    def loaded(self) -> list[str]:
        """The target models in the container's memory, the least recently used first."""
        with self._lock:
            return list(self._loaded.values())

    def close(self) -> None:
        self._loads.shutdown(wait=False, cancel_futures=True)

    def greet(self) -> None:
        """What the platform asks before any model is loaded. Raises Refusal when it is not answered."""
        answer = self._ask("GET", "/models", b"", self._limits.response_s)
        if answer.status != 200:
            raise model_error(answer.status, answer.body, self._endpoint)

    def invoke(self, target: str, send: Callable[[str], Answer]) -> Answer:
        """Have ``target`` loaded and ``send`` to the path under which it is asked. Raises Refusal."""
        for _ in range(2):
            name = self.use(target)
            answer = send(f"/models/{name}/invoke")
            if answer.status != 404 or self._is_loaded(name):
                break  # evicted between the two: once more
        return answer

    def use(self, target: str) -> str:
        """The name of a target model, once it is loaded. Raises Refusal; ModelNotReadyException while it loads."""
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
            raise Refusal(
                "ModelNotReadyException",
                f"Model {target} is still being loaded after {self._limits.load_answer_s:g} s; try again later",
            ) from error
        return name

    def _is_loaded(self, name: str) -> bool:
        with self._lock:
            return name in self._loaded

    def _source(self, target: str) -> Path:
        found = (self._folder / target.lstrip("/")).resolve()
        if not found.is_relative_to(self._folder) or not found.exists() or found == self._folder:
            raise invalid(f"TargetModel {target}: no such model in {self._folder}")
        return found

    def _load(self, name: str, target: str, source: Path) -> None:
        try:
            self._fetch(source, self._here / name / "model")
            body = json.dumps({"model_name": name, "url": f"{self._there}/{name}/model"}).encode()
            while True:
                answer = self._ask("POST", "/models", body, self._limits.load_s)
                if answer.status != TOO_LARGE or not self._evict(target):
                    break
            if answer.status not in (200, 409):
                raise model_error(answer.status, answer.body, self._endpoint)
            with self._lock:
                self._loaded[name] = target
            self._tell(f"loaded {target}")
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
        except BadModel as error:
            raise invalid(str(error)) from error
        partial.rename(unpacked)

    def _evict(self, wanted: str) -> bool:
        """Unload the least recently used model. False when there is none."""
        with self._lock:
            if not self._loaded:
                return False
            name, target = self._loaded.popitem(last=False)
        answer = self._ask("DELETE", f"/models/{name}", b"", self._limits.response_s)
        if answer.status not in (200, 404):
            raise model_error(answer.status, answer.body, self._endpoint)
        self._tell(f"unloaded {target}: no memory for {wanted}")
        return True

    def _ask(self, method: str, path: str, body: bytes, within_s: float) -> Answer:
        headers: Mapping[str, str] = JSON if body else {}
        try:
            return call(self._address, method, path, headers, body, within_s=within_s)
        except NoAnswer as error:
            raise model_error(0, str(error), self._endpoint) from error
