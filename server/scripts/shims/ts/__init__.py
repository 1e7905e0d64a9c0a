"""Stand-in of TorchServe's package for the handlers of model archives."""
