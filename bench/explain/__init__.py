"""Explanation: where the time of a request went."""
