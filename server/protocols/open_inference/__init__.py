"""The Open Inference Protocol, version 2, as Triton extends it: routes, and documents that are the same over gRPC."""
