"""BentoML's service in ``bench peers``. It runs in BentoML's environment, in the folder of ``service.json``."""

import json
from pathlib import Path

import bentoml
import numpy as np
import onnxruntime

SERVICE = json.loads((Path(__file__).parent / "service.json").read_text())


@bentoml.service(
    workers=SERVICE["workers"],
    traffic={"concurrency": SERVICE["max_batch_size"]},
    logging={"access": {"enabled": False}},
)
class Model:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(SERVICE["model"], options, providers=["CPUExecutionProvider"])

    @bentoml.api(batchable=True, max_batch_size=SERVICE["max_batch_size"], max_latency_ms=SERVICE["max_latency_ms"])
    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"x": x.astype(np.float32)})[0]
