"""SIAS, the information system of social action: core and Répertoire Général."""

__version__ = "0.1.0"
