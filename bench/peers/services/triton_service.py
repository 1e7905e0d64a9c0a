"""Triton's service in ``bench peers``: its Python backend through PyTriton, in the folder of ``service.json``."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

SERVICE = json.loads((Path(__file__).parent / "service.json").read_text())


class Model:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(SERVICE["model"], options, providers=["CPUExecutionProvider"])

    @batch
    def predict(self, x):
        return [self.session.run(None, {"x": x})[0]]


if __name__ == "__main__":
    config = TritonConfig(
        http_address=SERVICE["host"],
        http_port=SERVICE["port"],
        allow_grpc="grpc_port" in SERVICE,
        grpc_address=SERVICE["host"],
        grpc_port=SERVICE.get("grpc_port"),
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="model",
            infer_func=[Model().predict for _ in range(SERVICE["workers"])],
            inputs=[Tensor(name="x", dtype=np.float32, shape=(-1,))],
            outputs=[Tensor(name="y", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(
                max_batch_size=SERVICE["max_batch_size"],
                batcher=DynamicBatcher(max_queue_delay_microseconds=SERVICE["wait_us"]),
            ),
            strict=True,
        )
        triton.serve()
