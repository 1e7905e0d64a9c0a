"""BentoML's side of the comparison: runs in BentoML's environment, beside ``service.json``."""

import json
from pathlib import Path

import bentoml
import numpy as np
import onnxruntime

PLACE = json.loads((Path(__file__).parent / "service.json").read_text())


@bentoml.service(
    workers=PLACE["workers"],
    traffic={"concurrency": PLACE["max_batch_size"]},
    logging={"access": {"enabled": False}},
)
class Model:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(PLACE["model"], options, providers=["CPUExecutionProvider"])

    @bentoml.api(batchable=True, max_batch_size=PLACE["max_batch_size"], max_latency_ms=PLACE["max_latency_ms"])
    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"x": x.astype(np.float32)})[0]
