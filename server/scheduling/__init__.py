"""Scheduling: the measured cost table, the queue that decides, the scheduler that admits, the threads that run."""
