"""Common dictionaries: geography."""
