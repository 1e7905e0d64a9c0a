"""Stand-in for the multi-model server: the names that class handlers import."""
