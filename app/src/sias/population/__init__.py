"""A population of the Moselle, generated for tests, training and load."""
