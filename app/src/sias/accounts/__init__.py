"""Agents and how they sign in."""
