"""The SageMaker engine: what it would create, what exists, the difference, and the calls."""
