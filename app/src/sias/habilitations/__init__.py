"""Rights: who may do what, on which domain, in which territory. Deny by default; see rights.py and habilitations.toml."""
