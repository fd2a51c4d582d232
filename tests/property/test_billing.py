"""The law of billing: billed seconds are running seconds, whatever comes twice or in another order."""

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from hcp.model.ids import id_from_content
from hcp.model.ledger import BillingUsage
from hcp.model.steps import Cause
from hcp.model.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_SECOND, EpochMs
from hcp.model.workloads import WorkloadEvent, WorkloadEventType, WorkloadType
from streams.billing import Meter, on_metered
from tests.examples import AT, EVENT

PRICE = 2_345_679
KINDS = WorkloadEventType


def told(kind: WorkloadEventType, *, run: int, at_ms: int, number: int = 0) -> WorkloadEvent:
    """Make one fact of a run."""
    return replace(
        EVENT,
        event_id=id_from_content("billing", kind, run, number),
        event_type=kind,
        workload_type=WorkloadType.BATCH,
        facility_id="tx-north",
        run_number=run,
        price_usd_micros_per_device_hour=PRICE,
        observed_at_ms=EpochMs(at_ms),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A workload's facts, in order, and how long it ran."""

    events: tuple[WorkloadEvent, ...]
    ran_ms: int


@st.composite
def lives(draw: st.DrawFn) -> Told:
    """Draw up to four runs with gaps, each told of a few times; the last one completes."""
    at_ms, ran_ms, events = int(AT), 0, []
    for run in range(1, draw(st.integers(1, 4)) + 1):
        at_ms += draw(st.integers(0, 5 * MS_PER_HOUR))
        events.append(told(KINDS.STARTED, run=run, at_ms=at_ms))
        began_ms = at_ms
        for number in range(draw(st.integers(0, 4))):
            at_ms += draw(st.integers(1, MS_PER_DAY))
            events.append(told(KINDS.METERED, run=run, at_ms=at_ms, number=number))
        at_ms += draw(st.integers(0, MS_PER_DAY))
        events.append(told(KINDS.PREEMPTED, run=run, at_ms=at_ms))
        ran_ms += at_ms - began_ms
    return Told(events=tuple(events), ran_ms=ran_ms)


def billed(events: tuple[WorkloadEvent, ...] | list[WorkloadEvent]) -> list[BillingUsage]:
    """Return what is billed for these events."""
    meter: Meter | None = None
    usages: list[BillingUsage] = []
    for offset, event in enumerate(events):
        cause = Cause(topic="workload.events", partition=0, offset=offset, timestamp_ms=event.observed_at_ms)
        step = on_metered(meter, event, cause=cause)
        meter = dict(step.updates).get(event.workload_id, meter)
        usages += [record for record in step.outputs if isinstance(record, BillingUsage)]
    return usages


@given(lives(), st.data())
def test_billed_seconds_are_running_seconds(life: Told, data: st.DataObject) -> None:
    """Duplicated and shuffled facts bill the same device-seconds and the same money, each usage id once."""
    twice = [*life.events, *data.draw(st.lists(st.sampled_from(life.events)))]
    usages = billed(data.draw(st.permutations(twice)))
    device_ms = life.ran_ms * EVENT.device_count
    assert sum(usage.device_seconds for usage in usages) == device_ms // MS_PER_SECOND
    assert sum(usage.amount_usd_micros for usage in usages) == device_ms * PRICE // MS_PER_HOUR
    assert len({usage.usage_id for usage in usages}) == len(usages)


@given(lives())
def test_intervals_do_not_overlap_and_lie_within_a_day(life: Told) -> None:
    """So that an invoice of a day is complete, and no second is billed on two."""
    usages = sorted(billed(life.events), key=lambda usage: usage.interval_start_ms)
    for before, after in zip(usages, usages[1:], strict=False):  # noqa: RUF007  # reads as the sentence above
        assert before.interval_end_ms <= after.interval_start_ms
    for usage in usages:
        assert usage.interval_start_ms // MS_PER_DAY == (usage.interval_end_ms - 1) // MS_PER_DAY


@given(lives())
def test_a_replay_bills_nothing_twice(life: Told) -> None:
    """A process that comes back with an old table sends the same usage ids again."""
    assert [usage.usage_id for usage in billed(life.events)] == [usage.usage_id for usage in billed(life.events)]


def test_a_customer_s_word_ends_the_bill() -> None:
    """However late the devices are given back."""
    events = [
        replace(told(KINDS.CREATED, run=0, at_ms=AT)),
        told(KINDS.STARTED, run=1, at_ms=AT + 1_000),
        told(KINDS.CANCELLED, run=0, at_ms=AT + 11_000),
        told(KINDS.METERED, run=1, at_ms=AT + 60_000),
    ]
    assert sum(usage.device_seconds for usage in billed(events)) == 10 * EVENT.device_count


def test_a_late_start_is_credited_once() -> None:
    """Real-time work that waited longer than promised has a share of its bill back."""
    kinds = [
        (KINDS.CREATED, 0, 0),
        (KINDS.PLACED, 1, 10),
        (KINDS.STARTED, 1, 2_000),
        (KINDS.COMPLETED, 1, 3_602_000),
        (KINDS.COMPLETED, 1, 3_602_000),
    ]
    events = [
        replace(told(kind, run=run, at_ms=AT + after_ms), workload_type=WorkloadType.INFERENCE_REAL_TIME)
        for kind, run, after_ms in kinds
    ]
    usages = billed(events)
    owed = sum(usage.amount_usd_micros for usage in usages if usage.device_seconds)
    assert owed == PRICE * EVENT.device_count
    assert [usage.amount_usd_micros for usage in usages if usage.amount_usd_micros < 0] == [-(owed * 10 // 100)]
