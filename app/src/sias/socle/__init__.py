"""Common dictionaries: geography, organisation, budget nomenclature."""
