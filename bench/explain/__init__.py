"""Explanation: the parts of latency, their causes, and the evidence for each cause."""
