"""Online: artifacts in; answers, metrics and stage times out."""

import os

VERSION = "0.1.0"

# ONNX Runtime would otherwise, at import, write a device id and a database below the home folder and call its vendor.
# It is not read but written, and not in settings: it has to be there before anything imports the library.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # noqa: TID251
