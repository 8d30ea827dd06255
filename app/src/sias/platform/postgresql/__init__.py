"""Database engine: PostgreSQL behind PgBouncer, in a cluster that fails over."""
