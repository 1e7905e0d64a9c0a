"""Offline: a trained model and evaluation data in; one verified artifact and the evidence for it out."""
