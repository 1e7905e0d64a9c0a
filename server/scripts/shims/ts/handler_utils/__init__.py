"""Stand-in of the decorators of handlers."""
