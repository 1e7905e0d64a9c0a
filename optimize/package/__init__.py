"""The output: the artifact, its archive and report, and the commands that read them again."""
