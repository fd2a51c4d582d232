"""What the live picture and the summary ask of the database; each answers in milliseconds."""

from dataclasses import dataclass
from datetime import datetime

import psycopg

from sinks.timescale.failures import store_error
from sinks.timescale.tables import TABLES


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchRow:
    """One switch of one class at one site: its devices taken together."""

    observed_at: datetime
    facility_id: str
    device_class: str
    from_mode: str
    to_mode: str
    device_count: int
    committed_count: int
    validate_ms: float
    pause_ms: float
    activate_ms: float
    verify_ms: float
    commit_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Percentiles of a latency in ms; None while there is nothing to measure."""

    count: int
    p50_ms: float | None
    p99_ms: float | None


class Analytics:
    """Read-only questions on one connection."""

    def __init__(self, dsn: str) -> None:
        """Connect.

        Raises:
            StoreError: The database does not answer.
        """
        try:
            self._connection = psycopg.connect(dsn, autocommit=True, connect_timeout=10)
        except psycopg.Error as error:
            raise store_error("TimescaleDB must answer", error) from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def row_counts(self) -> dict[str, int]:
        """Return rows by table, exact."""
        names = [table.name for table in TABLES]
        union = " union all ".join(f"select '{name}', count(*) from {name}" for name in names)  # noqa: S608  # our names
        return dict(self._ask(union))

    def energy_prices(self) -> dict[str, tuple[datetime, float]]:
        """Return the last real-time price of each facility with its event time."""
        found = self._ask(
            "select distinct on (facility_id) facility_id, observed_at, value from market_prices "
            "where series = 'energy_real_time' order by facility_id, observed_at desc"
        )
        return {facility: (at, value) for facility, at, value in found}

    def profits(self) -> list[tuple[str, str, str, float, str]]:
        """Return facility, class, mode, USD/h of one device, best mode; the latest of each."""
        return self._ask(
            "select r.facility_id, r.device_class, r.mode, r.profit_usd_per_hour, r.best_mode from recommendations r "
            "join (select distinct on (facility_id) facility_id, recommendation_id from recommendations "
            "order by facility_id, observed_at desc, kafka_offset desc) last using (recommendation_id) "
            "order by 1, 2, 4 desc"
        )

    def modes(self) -> list[tuple[str, str, str, str, int]]:
        """Return facility, class, mode, state and how many devices."""
        return self._ask(
            "select facility_id, device_class, mode, state, count(*) from fleet_state_now "
            "group by 1, 2, 3, 4 order by 1, 2, 3"
        )

    def last_switches(self, count: int) -> list[SwitchRow]:
        """Return the last switches, newest first, the devices of one command taken together (means of their phases)."""
        found = self._ask(
            "select observed_at, facility_id, device_class, from_mode, to_mode, count(*), "  # noqa: S608  # an int
            "count(*) filter (where outcome = 'committed'), avg(validate_ms), avg(pause_ms), avg(activate_ms), "
            "avg(verify_ms), avg(commit_ms), avg(total_ms) from switches "
            "group by decision_id, observed_at, facility_id, device_class, from_mode, to_mode "
            f"order by max(recorded_at) desc limit {int(count)}"
        )
        return [
            SwitchRow(
                observed_at=row[0],
                facility_id=row[1],
                device_class=row[2],
                from_mode=row[3],
                to_mode=row[4],
                device_count=row[5],
                committed_count=row[6],
                validate_ms=row[7] or 0.0,
                pause_ms=row[8] or 0.0,
                activate_ms=row[9] or 0.0,
                verify_ms=row[10] or 0.0,
                commit_ms=row[11] or 0.0,
                total_ms=row[12] or 0.0,
            )
            for row in found
        ]

    def decisions(self) -> dict[str, int]:
        """Return how many decisions there are by action."""
        return dict(self._ask("select action, count(*) from decisions group by 1"))

    def hold_reasons(self) -> dict[str, int]:
        """Return why devices were held, by how often the reason began."""
        return dict(
            self._ask("select reason, count(*) from decisions where action = 'hold' group by 1 order by 2 desc")
        )

    def outcomes(self) -> dict[str, int]:
        """Return device switches by outcome."""
        return dict(self._ask("select outcome, count(*) from switches group by 1 order by 2 desc"))

    def price_to_command(self) -> Latency:
        """Return wall time from the price's broker timestamp to the decision's, decisions to switch only."""
        return self._latency(
            "extract(epoch from recorded_at - cause_timestamp) * 1000", "decisions where action = 'switch'"
        )

    def switch_latency(self, kind: str) -> Latency:
        """Return total_ms of committed switches of `gpu` or `asic` devices."""
        modes = "to_mode in ('mining', 'sleep') and from_mode in ('mining', 'sleep')"
        where = modes if kind == "asic" else f"not ({modes})"
        return self._latency("total_ms", f"switches where outcome = 'committed' and {where}")

    def dead_letters(self) -> dict[str, int]:
        """Return refused records by reason."""
        return dict(self._ask("select reason, count(*) from dead_letters group by 1 order by 2 desc"))

    def _latency(self, value: str, source: str) -> Latency:
        row = self._ask(
            f"select count(*), percentile_cont(0.5) within group (order by {value}), "  # noqa: S608  # constants above
            f"percentile_cont(0.99) within group (order by {value}) from {source}"
        )[0]
        return Latency(count=row[0], p50_ms=row[1], p99_ms=row[2])

    def _ask(self, question: str) -> list[tuple]:  # type: ignore[type-arg]  # rows of differing columns
        try:
            return self._connection.execute(question.encode()).fetchall()
        except psycopg.Error as error:
            raise store_error("a question must be answered", error) from error
