"""Load from outside, over HTTP: numbers that can be trusted, and where the time went."""
