"""Data of an environment: the synthetic population of the Moselle."""
