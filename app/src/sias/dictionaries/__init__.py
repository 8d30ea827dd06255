"""Screens of the common dictionaries: lists on a day, versions of an entry, imports with preview and rejects."""
