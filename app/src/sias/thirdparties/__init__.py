"""Tiers: who is paid, shared with Finance."""
