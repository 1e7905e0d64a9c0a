"""MLServer with planted faults: a custom runtime, named in ``model-settings.json``."""

import asyncio
import json
from pathlib import Path

import numpy as np
from faulty_model import FaultyModel
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

FAULTS = json.loads((Path(__file__).parent / "planted.json").read_text())["faults"]


class Planted(MLModel):
    async def load(self) -> bool:
        self.model = FaultyModel({name: value for name, value in FAULTS.items() if name != "sleep"})
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = np.atleast_2d(NumpyCodec.decode_input(payload.inputs[0]))
        if "sleep" in FAULTS:
            # A wait that leaves the event loop free: each request waits by itself.
            await asyncio.sleep(FAULTS["sleep"])
        answers = [self.model.predict(row.tolist()) for row in rows]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", np.array(answers))])
