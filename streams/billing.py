"""Billing: what ran is metered from the Resource Manager's facts and priced in integers; a miss is credited.

The law: billed device-seconds are running device-seconds, whatever comes twice or in another order. Facts are kept by
run (its start, its end, how far it was told to run), what follows from them is billed once, from where billing stood.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from hcp.model.ids import id_from_content
from hcp.model.ledger import BillingUsage
from hcp.model.steps import Cause, Step
from hcp.model.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_SECOND, EpochMs
from hcp.model.workloads import WorkloadEvent, WorkloadEventType
from streams.lifecycle import Life, Refusal, advance
from streams.service_levels import PERCENT, classify, credit_percent

_STOPS: Final = frozenset({WorkloadEventType.PREEMPTED, WorkloadEventType.COMPLETED, WorkloadEventType.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is known of one run; times are epoch ms, None is not known yet.

    Attributes:
        number: Counted from 1.
        started_at_ms: When it began.
        stopped_at_ms: When it ended.
        told_until_ms: Up to when it was told to run; 0 for never.
        billed_until_ms: Up to when it is billed; 0 before the first bill.
        facility_id: Where.
        price_usd_micros_per_device_hour: Of this run.
    """

    number: int
    started_at_ms: int | None = None
    stopped_at_ms: int | None = None
    told_until_ms: int = 0
    billed_until_ms: int = 0
    facility_id: str = ""
    price_usd_micros_per_device_hour: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """One workload's meter.

    Attributes:
        runs: Its runs, by number.
        life: Where it is, for what it was promised.
        cancelled_at_ms: When its customer ended it; None when he has not.
        rest_device_ms: Device time not yet a whole second.
        rest_usd_micros_ms: Price times device time not yet a whole micro-dollar, in micro-dollars times ms per hour.
        amount_usd_micros: Billed so far, credits left out.
        is_credited: Whether its end was weighed against its promises.
    """

    runs: tuple[Run, ...] = ()
    life: Life | None = None
    cancelled_at_ms: int | None = None
    rest_device_ms: int = 0
    rest_usd_micros_ms: int = 0
    amount_usd_micros: int = 0
    is_credited: bool = False


def on_metered(state: Meter | None, event: WorkloadEvent, *, cause: Cause) -> Step[Meter]:
    """Take in one event; the table's key is the workload. Bills what has become certain."""
    before = state or Meter()
    life = advance(before.life, event)
    meter = _noted(before if isinstance(life, Refusal) else replace(before, life=life), event)
    usages: list[BillingUsage] = []
    for run in meter.runs:
        until_ms = _certain_until_ms(run, cancelled_at_ms=meter.cancelled_at_ms)
        if until_ms is not None:
            meter, billed = _billed(meter, run, event=event, until_ms=until_ms, cause=cause)
            usages.extend(billed)
    if meter.life is not None and meter.life.is_over and not meter.is_credited:
        meter, credits_ = _credited(meter, meter.life, event=event, cause=cause)
        usages.extend(credits_)
    if meter == before:
        return Step(ignored="duplicate")
    return Step(updates=((event.workload_id, meter),), outputs=tuple(usages))


def _noted(meter: Meter, event: WorkloadEvent) -> Meter:
    """Keep what an event says of a run; what is known of it already stays."""
    kind, at_ms = event.event_type, event.observed_at_ms
    if kind is WorkloadEventType.CANCELLED:
        return meter if meter.cancelled_at_ms is not None else replace(meter, cancelled_at_ms=at_ms)
    if kind not in _STOPS and kind not in {WorkloadEventType.STARTED, WorkloadEventType.METERED}:
        return meter
    if event.run_number == 0:  # it failed before any run
        return meter
    runs = {run.number: run for run in meter.runs}
    run = runs.get(event.run_number, Run(number=event.run_number))
    if kind is WorkloadEventType.STARTED and run.started_at_ms is None:
        run = replace(
            run,
            started_at_ms=at_ms,
            facility_id=event.facility_id or "",
            price_usd_micros_per_device_hour=event.price_usd_micros_per_device_hour or 0,
        )
    elif kind is WorkloadEventType.METERED:
        run = replace(run, told_until_ms=max(run.told_until_ms, at_ms))
    elif kind in _STOPS and run.stopped_at_ms is None:
        run = replace(run, stopped_at_ms=at_ms)
    runs[run.number] = run
    return replace(meter, runs=tuple(runs[number] for number in sorted(runs)))


def _certain_until_ms(run: Run, *, cancelled_at_ms: int | None) -> int | None:
    """Return up to when a run is known to have run, if that is beyond what is billed.

    A customer's word ends a run at once, however long it takes until the devices are given back.
    """
    if run.started_at_ms is None:
        return None
    ends = [each for each in (run.stopped_at_ms, cancelled_at_ms) if each is not None]
    until_ms = min(ends) if ends else run.told_until_ms
    return until_ms if until_ms > max(run.billed_until_ms, run.started_at_ms) else None


def _billed(
    meter: Meter, run: Run, *, event: WorkloadEvent, until_ms: int, cause: Cause
) -> tuple[Meter, list[BillingUsage]]:
    assert run.started_at_ms is not None, "a run that is billed has begun"
    usages: list[BillingUsage] = []
    price = run.price_usd_micros_per_device_hour
    for start_ms, end_ms in _by_day(max(run.started_at_ms, run.billed_until_ms), until_ms):
        device_ms = (end_ms - start_ms) * event.device_count
        seconds, rest_ms = divmod(meter.rest_device_ms + device_ms, MS_PER_SECOND)
        amount, rest_amount = divmod(meter.rest_usd_micros_ms + device_ms * price, MS_PER_HOUR)
        meter = replace(
            meter,
            rest_device_ms=rest_ms,
            rest_usd_micros_ms=rest_amount,
            amount_usd_micros=meter.amount_usd_micros + amount,
        )
        if seconds or amount:
            usage_id = id_from_content("usage", event.workload_id, run.number, start_ms)
            usages.append(
                _usage(
                    event,
                    usage_id=usage_id,
                    facility_id=run.facility_id,
                    interval_ms=(start_ms, end_ms),
                    device_seconds=seconds,
                    price=price,
                    amount=amount,
                    cause=cause,
                )
            )
    runs = tuple(replace(each, billed_until_ms=until_ms) if each.number == run.number else each for each in meter.runs)
    return replace(meter, runs=runs), usages


def _by_day(start_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """Cut an interval at midnight UTC: an invoice is a day's."""
    while start_ms < end_ms:
        cut_ms = min((start_ms // MS_PER_DAY + 1) * MS_PER_DAY, end_ms)
        yield start_ms, cut_ms
        start_ms = cut_ms


def _credited(meter: Meter, life: Life, *, event: WorkloadEvent, cause: Cause) -> tuple[Meter, list[BillingUsage]]:
    """Weigh an ended workload against its promises, once; the credit is a share of what it was billed."""
    done = replace(meter, is_credited=True)
    if life.first_started_at_ms is None or life.finished_at_ms is None:
        return done, []
    percent = credit_percent(
        classify(event.workload_type, priority=event.priority),
        wait_ms=life.wait_ms,
        availability_ratio=life.availability_ratio(life.finished_at_ms),
    )
    amount = meter.amount_usd_micros * percent // PERCENT
    if not amount:
        return done, []
    last = next((run for run in reversed(meter.runs) if run.facility_id), None)
    assert last is not None, "what was billed ran somewhere"
    credit = _usage(
        event,
        usage_id=id_from_content("credit", event.workload_id),
        facility_id=last.facility_id,
        interval_ms=(life.finished_at_ms, life.finished_at_ms),
        device_seconds=0,
        price=0,
        amount=-amount,
        cause=cause,
    )
    return done, [credit]


def _usage(
    event: WorkloadEvent,
    *,
    usage_id: str,
    facility_id: str,
    interval_ms: tuple[int, int],
    device_seconds: int,
    price: int,
    amount: int,
    cause: Cause,
) -> BillingUsage:
    return BillingUsage(
        usage_id=usage_id,
        workload_id=event.workload_id,
        customer_id=event.customer_id,
        facility_id=facility_id,
        device_class=event.device_class,
        interval_start_ms=EpochMs(interval_ms[0]),
        interval_end_ms=EpochMs(interval_ms[1]),
        device_seconds=device_seconds,
        price_usd_micros_per_device_hour=price,
        amount_usd_micros=amount,
        observed_at_ms=EpochMs(max(cause.timestamp_ms, interval_ms[1])),
    )
