"""Child processes: what may run foreign code, crash or grow runs in one, with limits."""
