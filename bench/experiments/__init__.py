"""Experiments: one run, or several runs for one question."""
