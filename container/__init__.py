"""The container images, the monitoring stack, and SageMaker on this machine."""
