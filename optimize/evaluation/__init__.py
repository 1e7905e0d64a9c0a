"""Evaluation: data, metrics, and the accuracy that a candidate loses against the baseline."""
