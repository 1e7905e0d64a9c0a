"""Stand-in for the multi-model server: what its handlers import."""
