"""Stand-in for the SageMaker inference toolkit: what scripts import of it, and nothing of its server."""
