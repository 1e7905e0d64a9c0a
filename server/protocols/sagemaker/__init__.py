"""SageMaker's HTTP contract: invocations, multi-model endpoints, batch transform and sessions."""
