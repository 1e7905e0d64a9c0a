"""Deploys an artifact: to SageMaker, Kubernetes, Ray, or this machine."""
