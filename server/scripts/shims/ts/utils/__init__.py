"""Stand-in of the helpers of handlers."""
