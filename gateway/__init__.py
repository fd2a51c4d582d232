"""The customers' API: reads PostgreSQL, TimescaleDB and Redis; writes PostgreSQL (with the outbox) and nothing else."""
