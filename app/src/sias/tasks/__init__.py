"""Boîte à tâches: one inbox for all workflows."""
