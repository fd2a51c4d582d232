"""Run the operational sink: workload.events and billing.usage into database `hcp`."""

from dataclasses import dataclass
from typing import Any, Final

import psycopg

from hcp.model.ledger import BillingUsage
from hcp.model.workloads import WorkloadEvent
from hcp.settings import Settings
from hcp.telemetry import IGNORED
from hcp.topics import BILLING_USAGE, WORKLOAD_EVENTS
from sinks.loop import Told, follow
from sinks.operational.model import take_event, take_usage
from sinks.timescale.failures import store_error

NAME: Final = "operational"
TOPICS: Final = (WORKLOAD_EVENTS.name, BILLING_USAGE.name)
CONNECT_SECONDS: Final = 10


def run_operational(*, settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; return the exit code.

    Raises:
        BrokerError: A topic is missing or the broker refuses.
        StoreError: The gateway's tables are not there, or not what they should be.
    """
    return follow(
        NAME, settings=settings, topics=TOPICS, effect=Operational(settings.postgres_dsn.get_secret_value()).take
    )


@dataclass(slots=True)
class Operational:
    """Writes batches, each in one transaction."""

    dsn: str
    _connection: psycopg.Connection[Any] | None = None

    def take(self, told: list[Told]) -> None:
        """Write what records change; again, they change nothing.

        Raises:
            StoreUnavailableError: The database is away.
            StoreError: It refuses.
        """
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self.dsn, autocommit=True, connect_timeout=CONNECT_SECONDS)
            with self._connection.transaction():
                for record, value in told:
                    ignored: str | None = None
                    if isinstance(value, WorkloadEvent):
                        ignored = take_event(self._connection, value, record=record)
                    elif isinstance(value, BillingUsage):
                        ignored = take_usage(self._connection, value, record=record)
                    if ignored is not None:
                        IGNORED.labels(f"sink.{NAME}", record.topic, ignored).inc()
        except psycopg.Error as error:
            self.close()
            raise store_error("workloads must be written", error) from error

    def close(self) -> None:
        """Close the connection; the next batch opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
