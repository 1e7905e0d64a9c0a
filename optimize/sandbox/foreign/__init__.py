"""Converters that run in an isolated environment with the standard library, numpy and one framework only."""
