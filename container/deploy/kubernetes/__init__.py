"""The Kubernetes engine: the objects that a description gives, as files for kubectl."""
