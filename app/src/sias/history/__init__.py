"""History: every change of business data, written by the database itself."""
