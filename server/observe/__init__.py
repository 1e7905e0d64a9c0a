"""Observability of the server: metrics, stage times, process metrics."""
