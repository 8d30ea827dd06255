"""What every module stands on: database engine, failover, idempotency, health, metrics."""
