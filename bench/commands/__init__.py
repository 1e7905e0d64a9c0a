"""The commands: what each takes on the command line, and what it prints."""
