"""Documents attached to persons."""
