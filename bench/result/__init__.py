"""Results: the record of a run, its statistics, and whether it is valid."""
