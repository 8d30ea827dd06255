"""Changes that users do not notice: what releases, Debian upgrades and PostgreSQL migrations have in common."""
