"""MLServer with planted faults: a custom runtime, named in ``model-settings.json``."""

import asyncio
import json
from pathlib import Path

import numpy as np
import users
from faulty_model import FaultyModel
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

PLANTED = json.loads((Path(__file__).parent / "planted.json").read_text())
FAULTS, CODE = PLANTED["faults"], PLANTED["code"]


class Planted(MLModel):
    async def load(self) -> bool:
        if CODE:
            self.model = users.make(CODE, Path(__file__).parent)
            return True
        self.model = FaultyModel({name: value for name, value in FAULTS.items() if name != "sleep"})
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = np.atleast_2d(NumpyCodec.decode_input(payload.inputs[0]))
        if "sleep" in FAULTS:
            # A wait that leaves the event loop free: each request waits by itself.
            await asyncio.sleep(FAULTS["sleep"])
        if CODE:  # on the event loop, as the author of a runtime leaves it
            answers = [self.model.predict({"values": row.tolist()})["values"] for row in rows]
        else:
            answers = [self.model.predict(row.tolist()) for row in rows]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", np.array(answers))])
