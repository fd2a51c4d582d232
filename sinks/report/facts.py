"""What a report says of a period, asked of the views that analysts use."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from hcp.errors import StoreError
from sinks.timescale.asking import Answer, Question

ROWS_MAX: Final = 200_000
NEWEST: Final = (
    "select greatest((select max(time) from clusters_1h), (select max(observed_at) from market_prices)) as newest"
)
QUESTIONS: Final[dict[str, str]] = {
    "prices": """
        select time_bucket('15 minutes', observed_at) as time, facility_id, avg(value) as usd_per_mwh
        from market_prices
        where series = 'energy_real_time' and observed_at >= %(since)s and observed_at < %(until)s
        group by 1, 2
        order by 1, 2""",
    "power": """
        select time, facility_id, sum(power_watts) / 1e6 as power_mw
        from clusters_1h
        where time >= %(since)s and time < %(until)s
        group by 1, 2
        order by 1, 2""",
    "modes": """
        select c.time, c.facility_id, m.mode, sum(m.device_count) as device_count
        from clusters_1h c
        cross join lateral (values
            ('mining', mining_device_count), ('mining_eco', mining_eco_device_count),
            ('ai_inference', ai_inference_device_count), ('idle', idle_device_count), ('sleep', sleep_device_count)
        ) as m (mode, device_count)
        where c.time >= %(since)s and c.time < %(until)s
        group by 1, 2, 3
        order by 1, 2, 3""",
    "earnings": """
        select time, facility_id, revenue_usd, energy_cost_usd, demand_cost_usd, wear_usd, profit_usd, realised_usd,
               switch_cost_usd, billed_usd
        from revenue_by_facility_1h
        where time >= %(since)s and time < %(until)s
        order by 1, 2""",
    "regret": """
        select hour_start as time, facility_id,
               sum(hindsight_so_far_usd_micros - realised_so_far_usd_micros)::double precision / 1e6 as regret_usd
        from regrets
        where hour_start >= %(since)s and hour_start < %(until)s
        group by 1, 2
        order by 1, 2""",
    "latency": """
        select time, device_class, max(total_ms_p99) as total_ms_p99
        from switch_latency_1h
        where time >= %(since)s and time < %(until)s
        group by 1, 2
        order by 1, 2""",
    "outcomes": """
        select facility_id, device_class, outcome, count(*) as switch_count,
               percentile_cont(0.5) within group (order by total_ms) as total_ms_p50,
               percentile_cont(0.99) within group (order by total_ms) as total_ms_p99
        from switch_events
        where observed_at >= %(since)s and observed_at < %(until)s
        group by 1, 2, 3
        order by 1, 2, 3""",
    "decisions": """
        select facility_id, action, reason, count(*) as decision_count
        from decisions
        where observed_at >= %(since)s and observed_at < %(until)s
        group by 1, 2, 3
        order by 1, 4 desc, 3""",
    "alerts": """
        select observed_at, severity, alert_type, subject, message
        from alerts
        where observed_at >= %(since)s and observed_at < %(until)s
        order by 1 desc
        limit 50""",
    "refused": """
        select source_topic, reason, count(*) as record_count
        from (select *, coalesce(source_timestamp, recorded_at) as at from dead_letters) as letters
        where at >= %(since)s and at < %(until)s
        group by 1, 2
        order by 3 desc""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From `since` on, before `until`."""

    since: datetime
    until: datetime

    def __str__(self) -> str:
        """Say it in UTC."""
        return f"{self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Answers by the names of `QUESTIONS`, for one period."""

    period: Period
    answers: dict[str, Answer]

    @property
    def facilities(self) -> tuple[str, ...]:
        """Sites that have a price, power, a decision or a switch in the period."""
        found = {
            str(row[answer.columns.index("facility_id")])
            for answer in self.answers.values()
            if "facility_id" in answer.columns
            for row in answer.rows
        }
        return tuple(sorted(found))

    def column(self, name: str, column: str, **where: object) -> list[Any]:
        """Return one column of an answer, of the rows in which the other columns have these values."""
        answer = self.answers[name]
        wanted = [(answer.columns.index(key), value) for key, value in where.items()]
        index = answer.columns.index(column)
        return [row[index] for row in answer.rows if all(row[at] == value for at, value in wanted)]


def period_ending(question: Question, *, length: timedelta, until: datetime | None) -> Period:
    """Return the period of a length that ends at `until`, or with the hour of the newest price or reading.

    Raises:
        StoreError: There is neither, and no `until` was given; or the database is not migrated.
    """
    if until is None:
        newest = question.ask(NEWEST).rows[0][0]
        if newest is None:
            raise StoreError("the database must hold prices or telemetry, was empty: `hcp demo --keep` fills one")
        until = newest.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    return Period(since=until - length, until=until)


def facts_of(question: Question, period: Period) -> Facts:
    """Ask everything.

    Raises:
        StoreError: Nothing at all happened in the period, or the database refuses a question.
    """
    limits = {"since": period.since, "until": period.until}
    answers = {name: question.ask(words, rows_max=ROWS_MAX, **limits) for name, words in QUESTIONS.items()}
    if not any(answer.rows for answer in answers.values()):
        raise StoreError(f"the period {period} must hold rows, was empty")
    return Facts(period=period, answers=answers)
