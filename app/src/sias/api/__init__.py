"""The API for partners and other applications of the Département."""
