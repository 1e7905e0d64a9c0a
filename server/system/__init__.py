"""The machine: control groups, cores, processor, memory and orphaned processes. Nothing else reads it."""
