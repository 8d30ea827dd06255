"""RGPD: the rights of persons, what each field is for, how long it is kept."""
