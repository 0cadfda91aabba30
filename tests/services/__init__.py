"""Models in services: in many threads and processes, interrupted, for long."""
