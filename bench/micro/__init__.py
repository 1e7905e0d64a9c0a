"""What the server costs on top of the model: scenarios that print ratios against something measured in the same run."""
