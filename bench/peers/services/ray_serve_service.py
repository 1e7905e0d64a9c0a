"""Ray Serve's side of the comparison: runs in Ray's environment, beside ``service.json``."""

import json
import signal
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import ray
from ray import serve

PLACE = json.loads((Path(__file__).parent / "service.json").read_text())


def keep_private() -> None:
    """A replica has a port for other replicas, on all interfaces by a constant: here it stays on this machine."""
    from ray.serve._private import replica

    add = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, _address: add(server, f"{PLACE['host']}:0")


@serve.deployment(
    num_replicas=PLACE["workers"],
    max_ongoing_requests=2 * PLACE["max_batch_size"],
    ray_actor_options={"num_cpus": 1},
)
class Model:
    def __init__(self, model: str) -> None:
        keep_private()  # runs before that port is opened
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @serve.batch(max_batch_size=PLACE["max_batch_size"], batch_wait_timeout_s=PLACE["wait_s"])
    async def predict(self, rows: list) -> list:
        return self.session.run(None, {"x": np.asarray(rows, np.float32)})[0].tolist()

    async def __call__(self, request):
        return {"output": await self.predict((await request.json())["input"])}


if __name__ == "__main__":
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ray.init(
        num_cpus=PLACE["workers"],
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
        _temp_dir=PLACE["scratch"],
    )
    serve.start(http_options={"host": PLACE["host"], "port": PLACE["port"]})
    serve.run(Model.bind(PLACE["model"]))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    ray.shutdown()
