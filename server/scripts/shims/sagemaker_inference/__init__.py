"""Stand-in for the SageMaker inference toolkit: the names that scripts import, without its server."""
