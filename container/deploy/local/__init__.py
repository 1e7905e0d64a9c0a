"""The engine of this machine: a host process that keeps one endpoint in service, and a folder as registry."""
