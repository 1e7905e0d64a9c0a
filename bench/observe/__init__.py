"""Observation: the server, the machine and the generator while a load runs."""
