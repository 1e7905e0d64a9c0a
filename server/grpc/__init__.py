"""The Open Inference Protocol over gRPC: calls in, the handlers and the scheduler of the HTTP routes behind them.

Nothing here is imported unless ``--grpc-port`` is set.
"""
