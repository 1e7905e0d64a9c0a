"""Layouts: what the folders and archives of other servers say about a model. Files are read, nothing is run."""
