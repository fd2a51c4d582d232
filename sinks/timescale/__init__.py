"""The TimescaleDB sink: tables, pure rows, writer, migrations, and what the live picture asks."""
