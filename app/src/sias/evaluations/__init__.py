"""Evaluations of a household, flash and in-depth, and its situation: answers to versioned questionnaires."""
