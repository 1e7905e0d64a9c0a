"""The monitor: statistics of captured data, drift against a baseline, and quality against late labels."""
