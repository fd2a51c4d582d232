"""Chains of records out of TimescaleDB: a few look-ups by index for each step."""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from hcp.browse.chain import KINDS, RECORDS_MAX, Kind, Link, link_of
from hcp.kafka.records import address_in
from hcp.model.commands import ControllerResult
from hcp.model.orders import OperatorOrder
from hcp.topics import TOPICS, topic_named
from sinks.timescale.failures import store_error
from sinks.timescale.tables import table_of

NEWEST_MAX: Final = 20
TIMEOUT_MS: Final = 30_000
_TOPIC: Final = {topic.record: topic.name for topic in TOPICS}
_OF_DEVICES: Final = (ControllerResult, OperatorOrder)
_GROUPED: Final = (
    "select kafka_partition, kafka_offset, (extract(epoch from min(observed_at)) * 1000)::bigint as observed_at_ms, "
    "(extract(epoch from min(recorded_at)) * 1000)::bigint as recorded_at_ms, count(*) as devices{columns} "
    "from {table} where {condition} group by 1, 2 order by 4 desc limit {limit}"
)


class StoredChains:
    """Records of chains, read from the analytics database."""

    def __init__(self, dsn: str) -> None:
        """Connect.

        Raises:
            StoreUnavailableError: The database does not answer.
        """
        try:
            self._connection = psycopg.connect(dsn, autocommit=True, connect_timeout=10, row_factory=dict_row)
            self._connection.execute("select set_config('statement_timeout', %s, false)", (str(TIMEOUT_MS),))
        except psycopg.Error as error:
            raise store_error("the database must answer", error) from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def named(self, names: Iterable[str]) -> list[Link]:
        """Return the records of these ids and addresses.

        Raises:
            StoreError: The database refuses, or takes too long.
        """
        wanted = list(names)
        ids = _ids(wanted)
        found = [
            link
            for kind in KINDS
            if kind.own is not None and ids
            for link in self._ask(kind, sql.SQL("{} = any(%s)").format(sql.Identifier(kind.own)), (ids,))
        ]
        by_record = {kind.record: kind for kind in KINDS}
        for address in filter(None, map(address_in, wanted)):
            topic = topic_named(address[0])
            if topic is not None and topic.record in by_record:
                condition = sql.SQL("kafka_partition = %s and kafka_offset = %s")
                found += self._ask(by_record[topic.record], condition, address[1:])
        return found

    def led_to_by(self, names: Iterable[str]) -> list[Link]:
        """Return the records that name one of these as their cause, or as what they are about. Raises as `named`."""
        wanted = list(names)
        ids = _ids(wanted)
        found: list[Link] = []
        for kind in KINDS:
            for link in kind.links if ids else ():
                found += self._ask(kind, sql.SQL("{} = any(%s)").format(sql.Identifier(link)), (ids,))
            if kind.about is not None:
                found += self._ask(kind, sql.SQL("{} = any(%s)").format(sql.Identifier(kind.about)), (wanted,))
            for address in filter(None, map(address_in, wanted)) if kind.is_caused else ():
                condition = sql.SQL("cause_topic = %s and cause_partition = %s and cause_offset = %s")
                found += self._ask(kind, condition, address)
        return found

    def of_device(self, device: str) -> list[Link]:
        """Return a device's newest switches and orders. Raises as `named`."""
        found = [
            link
            for kind in KINDS
            if kind.record in _OF_DEVICES
            for link in self._ask(kind, sql.SQL("device_id = %s"), (device,), limit=NEWEST_MAX)
        ]
        return sorted(found, key=lambda each: each.recorded_at_ms)[-NEWEST_MAX:]

    def _ask(
        self, kind: Kind, condition: sql.Composable, values: Sequence[object], *, limit: int = RECORDS_MAX
    ) -> list[Link]:
        columns = sql.SQL("").join(
            sql.SQL(", (array_agg({0}))[1] as {0}").format(sql.Identifier(name)) for name in kind.columns
        )
        question = sql.SQL(_GROUPED).format(
            columns=columns,
            table=sql.Identifier(table_of(kind.record).name),
            condition=condition,
            limit=sql.Literal(limit),
        )
        try:
            rows = self._connection.execute(question, values).fetchall()
        except psycopg.Error as error:
            raise store_error("the database must take a question", error) from error
        return [_link(kind, row) for row in rows]


def _ids(names: Iterable[str]) -> list[UUID]:
    found = []
    for name in names:
        try:
            found.append(UUID(name))
        except ValueError:
            continue
    return found


def _link(kind: Kind, row: dict[str, Any]) -> Link:
    return link_of(
        kind,
        row,
        place=(_TOPIC[kind.record], row["kafka_partition"], row["kafka_offset"]),
        times_ms=(row["observed_at_ms"], row["recorded_at_ms"]),
        devices=row["devices"],
    )
