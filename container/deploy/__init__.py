"""Puts an artifact on an engine that exists: SageMaker, or this machine."""
