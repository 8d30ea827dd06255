"""Répertoire Général: persons, households, search."""
