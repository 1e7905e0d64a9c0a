"""Conversion of large bodies in a process of its own, whose interpreter and memory are not the server's."""
