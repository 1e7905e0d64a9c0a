"""The peers: other model servers, measured beside Slipway on the same models, machine and run."""
