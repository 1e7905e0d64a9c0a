"""Offline: a trained model and evaluation data in; one verified artifact and the evidence for it out."""

import server as _  # noqa: F401 - before any other import: it switches the telemetry of ONNX Runtime off
