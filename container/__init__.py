"""The container images, and what puts them somewhere: deployment, local SageMaker, monitoring, updates of models."""
