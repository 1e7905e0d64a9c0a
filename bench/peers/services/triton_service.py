"""Triton's side of the comparison: its Python backend through PyTriton, beside ``service.json``."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

PLACE = json.loads((Path(__file__).parent / "service.json").read_text())


class Model:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(PLACE["model"], options, providers=["CPUExecutionProvider"])

    @batch
    def predict(self, x):
        return [self.session.run(None, {"x": x})[0]]


if __name__ == "__main__":
    config = TritonConfig(
        http_address=PLACE["host"],
        http_port=PLACE["port"],
        allow_grpc=False,
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="model",
            infer_func=[Model().predict for _ in range(PLACE["workers"])],
            inputs=[Tensor(name="x", dtype=np.float32, shape=(-1,))],
            outputs=[Tensor(name="y", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(
                max_batch_size=PLACE["max_batch_size"],
                batcher=DynamicBatcher(max_queue_delay_microseconds=PLACE["wait_us"]),
            ),
            strict=True,
        )
        triton.serve()
