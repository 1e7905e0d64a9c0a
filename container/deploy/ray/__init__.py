"""The engine of Ray: an application of Ray Serve, each of whose replicas forwards to a Slipway server of its own."""
