"""Partitions as one stream: nothing lost, each in its own order, by event time, the same every time."""

from collections import defaultdict
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hcp.browse.archive import Kept
from hcp.codecs import encode
from hcp.codecs.event_time import event_time_ms
from hcp.model.units import EpochMs
from replay.run.order import merged
from replay.run.pace import Pace
from tests.examples import AT, EXAMPLES, PRICE

PLACES = st.tuples(st.sampled_from(["a.b", "c.d"]), st.integers(0, 2))
TIMES = st.lists(st.one_of(st.integers(AT, AT + 60), st.none()), max_size=12)
"""Event times of a partition's records in any order; None for a record that does not decode."""


def kept(partition: int, offset: int, at_ms: int | None) -> Kept:
    """Return a record of that event time, or one that does not decode, written to the broker in the middle of them."""
    value = b"\xc3\x01broken" if at_ms is None else encode(replace(PRICE, observed_at_ms=EpochMs(at_ms)))
    return Kept(partition, offset, AT + 30, b"key", value, ())


def in_batches(
    partitions: dict[tuple[str, int], list[Kept]], size: int
) -> list[tuple[tuple[str, int], list[list[Kept]]]]:
    """Cut the records of each partition into batches, an empty one among them, as they are read."""
    return [
        (
            place,
            [*([] if place[1] else [[]]), *(records[start : start + size] for start in range(0, len(records), size))],
        )
        for place, records in partitions.items()
    ]


@given(times=st.dictionaries(PLACES, TIMES), size=st.integers(1, 5), other=st.integers(1, 5))
def test_merging_keeps_every_record_each_partitions_order_and_time(
    times: dict[tuple[str, int], list[int | None]], size: int, other: int
) -> None:
    """Due times rise; within a partition offsets do; every record is there once; no record is due before its time."""
    partitions = {
        place: [kept(place[1], offset, at_ms) for offset, at_ms in enumerate(each)] for place, each in times.items()
    }
    found = list(merged(in_batches(partitions, size)))
    assert [each.at_ms for each in found] == sorted(each.at_ms for each in found)
    again = defaultdict(list)
    for each in found:
        again[each.topic, each.record.partition].append(each.record)
        known_ms = times[each.topic, each.record.partition][each.record.offset]
        assert each.is_timed == (known_ms is not None)
        assert each.at_ms >= (AT + 30 if known_ms is None else known_ms)
    assert again == {place: records for place, records in partitions.items() if records}
    assert found == list(merged(reversed(in_batches(partitions, other))))


@given(at_ms=st.lists(st.integers(0, 10**6), min_size=1).map(sorted), speed=st.floats(0.1, 1_000.0))
def test_pace_sends_each_record_when_it_is_due_and_never_early(at_ms: list[int], speed: float) -> None:
    """By a clock that only sleeping moves, every record is sent at its time, to a microsecond."""
    now = [100.0]

    def sleep(wait_s: float) -> None:
        now[0] += wait_s

    pace = Pace(speed=speed, clock=lambda: now[0], sleep=sleep)
    for each in at_ms:
        assert 0.0 <= pace.wait(each) < 1e-6
        assert now[0] - 100.0 >= (each - at_ms[0]) / 1_000 / speed - 1e-6


def test_without_a_speed_nothing_is_waited_for() -> None:
    """As fast as possible: no sleep at all."""
    pace = Pace(speed=None, sleep=lambda _: (_ for _ in ()).throw(AssertionError))
    assert [pace.wait(each) for each in (0, 10**9)] == [0.0, 0.0]


def test_every_record_tells_its_event_time_without_being_decoded() -> None:
    """Of each class; what is cut off, or none, has no time."""
    for example in EXAMPLES:
        raw = encode(example)
        assert event_time_ms(raw) == getattr(example, "observed_at_ms", None)
        assert event_time_ms(raw[:12]) is None
    assert [event_time_ms(each) for each in (None, b"", b"\xc3\x01", b"rubbish that is longer")] == [None] * 4
