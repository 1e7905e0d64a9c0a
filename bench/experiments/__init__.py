"""Experiments: one run, or several that answer one question."""
