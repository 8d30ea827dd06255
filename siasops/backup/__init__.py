"""Backups: what each room's repository holds, whether it could restore, and the proof that it does."""
