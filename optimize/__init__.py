"""Offline optimization: turns a trained model and evaluation data into a verified artifact with its evidence."""

import server as _  # noqa: F401 - imported first: it switches off the telemetry of ONNX Runtime
