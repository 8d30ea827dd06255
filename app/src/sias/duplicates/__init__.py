"""Duplicates of persons and of households: found, compared, merged, and merged back apart."""
