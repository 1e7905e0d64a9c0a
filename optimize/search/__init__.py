"""The search: candidates are built, checked, timed and compared; one is chosen."""
