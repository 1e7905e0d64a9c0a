"""Sandboxes: child processes with limits for steps that run foreign code, may crash, or may exhaust memory."""
