"""Online: artifacts in; answers, metrics and stage times out."""

import os

VERSION = "0.1.0"

# ONNX Runtime would otherwise, at import, write a device id and a database below the home folder and call its vendor.
# It is the one setting that is not in settings.py: it has to be there before anything can import the library.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
