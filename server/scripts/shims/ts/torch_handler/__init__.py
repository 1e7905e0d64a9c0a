"""Stand-in of the base classes of handlers."""
