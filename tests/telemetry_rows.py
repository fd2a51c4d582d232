"""Telemetry rows straight into the tables, for tests of what the database makes of them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

_INSERT = """
insert into asic_telemetry
select 'tx-north', %(cluster)s, %(shard)s, 's21', %(at)s, n.number, %(mode)s, d.power,
       60 + n.number, 30, 200, 5000, null,
       %(shard)s || '/' || lpad(n.number::text, 3, '0'), %(at)s, 0, 0
from unnest(%(powers)s::double precision[]) with ordinality as d (power, ordinality)
cross join lateral (select d.ordinality - 1) as n (number)
on conflict do nothing
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One report of one shard of ASICs: each device has 200 TH/s and a chip of 60 °C plus its number.

    Attributes:
        at: Event time.
        powers: Watts by device; None is not measured.
        shard: With its cluster before the slash.
        mode: Of all.
    """

    at: datetime
    powers: tuple[float | None, ...]
    shard: str = "tx-north.asic-1/00"
    mode: str = "mining"


def insert_ticks(connection: psycopg.Connection, *ticks: Tick) -> None:
    """Insert each tick by a statement of its own; a row that is there already stays as it is."""
    for tick in ticks:
        connection.execute(
            _INSERT.encode(),
            {
                "cluster": tick.shard.partition("/")[0],
                "shard": tick.shard,
                "at": tick.at,
                "mode": tick.mode,
                "powers": list(tick.powers),
            },
        )


def every(period: timedelta, *, count: int, since: datetime, powers: tuple[float | None, ...]) -> list[Tick]:
    """Return ticks at a steady pace."""
    return [Tick(at=since + number * period, powers=powers) for number in range(count)]
