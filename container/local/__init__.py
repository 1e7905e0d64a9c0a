"""A SageMaker on the laptop: an image or the bare server run as the platform runs it, and its runtime API before it."""
