"""SageMaker on this machine: runs an image, or the server of this checkout, as the platform does, behind its API."""
