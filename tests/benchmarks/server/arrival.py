"""The reference of ``lengths``: a server that batches in order of arrival and pads to the longest of the batch.

An ASGI application under the same uvicorn, with the pipeline's tokenizer, encoder and pooling, on one thread:
``python -m tests.benchmarks.server.arrival PORT FOLDER BATCH``
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tokenizers
import uvicorn

Waiting = list[tuple[str, asyncio.Future[bytes]]]


class Encoder:
    """Texts to vectors, all in one batch."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_padding()  # to the longest
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = folder / "encoder" / "model.onnx"
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [one.name for one in self._session.get_inputs()]

    def __call__(self, texts: list[str]) -> np.ndarray[Any, Any]:
        rows = self._tokenizer.encode_batch(texts)
        mask = np.array([row.attention_mask for row in rows], np.int64)
        given = {"input_ids": np.array([row.ids for row in rows], np.int64), "attention_mask": mask}
        given["token_type_ids"] = np.zeros_like(mask)
        (states, *_) = self._session.run(None, {name: given[name] for name in self._names})
        pooled = (states * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        vectors: np.ndarray[Any, Any] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return vectors


class Arrival:
    """Runs the waiting texts, up to ``batch`` of them, whenever the encoder is free."""

    def __init__(self, encoder: Encoder, batch: int) -> None:
        self._encoder = encoder
        self._batch = batch
        self._waiting: Waiting = []
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/ping":
            answer = b""
            # A run goes on for clients that have left; the next measurement must not begin before it ends.
            while self._running is not None:
                await asyncio.shield(self._running)
        else:
            answer = await self._embed(body.decode())
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}
        )
        await send({"type": "http.response.body", "body": answer})

    async def _embed(self, text: str) -> bytes:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append((text, future))
        if self._running is None:
            self._running = asyncio.ensure_future(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting[: self._batch], self._waiting[self._batch :]
            vectors = await asyncio.to_thread(self._encoder, [text for text, _ in taken])
            for (_, future), vector in zip(taken, vectors, strict=True):
                future.set_result(vector.tobytes())
        self._running = None


if __name__ == "__main__":
    port, folder, batch = sys.argv[1:]
    uvicorn.run(Arrival(Encoder(Path(folder)), int(batch)), port=int(port), lifespan="off", log_level="warning")
