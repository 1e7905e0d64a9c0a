"""Peers: other model servers, compared with Slipway on the same models and machine in one run."""
