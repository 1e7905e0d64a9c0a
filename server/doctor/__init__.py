"""The doctor: says before the start, line by line, what would keep this server from serving this model here."""
