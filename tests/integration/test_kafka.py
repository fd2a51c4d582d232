"""hcp.kafka on a real broker: topics, delivery, groups, dead letters."""

from dataclasses import replace
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from hcp.codecs import decode, encode
from hcp.errors import BrokerError
from hcp.kafka.admin import describe, ensure_topics, group_lag
from hcp.kafka.consumer import BatchConsumer
from hcp.kafka.groups import committed
from hcp.kafka.producer import RecordProducer
from hcp.kafka.ranges import NEVER, ranges_by_offset, read
from hcp.kafka.records import ConsumedRecord
from hcp.kafka.tail import tail
from hcp.model.rejections import DeadLetter, Rejected, RejectReason
from hcp.stack import StackAddresses
from hcp.topics import AUDIT_EVENTS, MARKET_PRICE, Cleanup, Topic, all_topics
from tests.examples import AUDIT

pytestmark = pytest.mark.services
POLLS_MAX = 100
SESSION_MS = 240_000
"""Longer than any poll of these tests waits."""


def _read(consumer: BatchConsumer, count: int) -> list[ConsumedRecord]:
    records: list[ConsumedRecord] = []
    for _ in range(POLLS_MAX):
        records += consumer.poll(records_max=100, timeout_ms=200)
        if len(records) >= count:
            break
    return records


def _place(record: ConsumedRecord) -> tuple[int, int]:
    return record.partition, record.offset


def test_topics_are_created_once(services: StackAddresses) -> None:
    """`hcp topics create` makes all and, run again, changes nothing."""
    ensure_topics(services.kafka_bootstrap)
    assert ensure_topics(services.kafka_bootstrap) == ()
    found = describe(services.kafka_bootstrap, [topic.name for topic in all_topics()])
    assert [each.partitions for each in found] == [topic.partitions for topic in all_topics()]


def test_a_topic_with_other_partitions_is_refused(services: StackAddresses) -> None:
    """Partitions are fixed for ever: a broker that has another number is not ours to use."""
    one = Topic(
        name=f"t-{uuid4().hex}",
        record=type(AUDIT),
        key="subject",
        partition_by="subject",
        partitions=1,
        cleanup=Cleanup.DELETE,
        retention_ms=-1,
        doc="",
    )
    ensure_topics(services.kafka_bootstrap, [one])
    two = replace(one, partitions=2)
    with pytest.raises(BrokerError, match="must have 2 partitions, was 1"):
        ensure_topics(services.kafka_bootstrap, [two])


@pytest.mark.timeout(600)
def test_a_prompt_poll_waits_for_the_first_record_and_not_for_a_full_batch(services: StackAddresses) -> None:
    """It would else be in this test until the bound on it: the batch never fills."""
    ensure_topics(services.kafka_bootstrap)
    topic = Topic(
        name=f"t-{uuid4().hex}",
        record=type(AUDIT),
        key="subject",
        partition_by="subject",
        partitions=1,
        cleanup=Cleanup.DELETE,
        retention_ms=-1,
        doc="",
    )
    ensure_topics(services.kafka_bootstrap, [topic])
    producer = Producer({"bootstrap.servers": services.kafka_bootstrap})
    for number in range(3):
        producer.produce(topic.name, value=b"%d" % number)
    producer.flush()
    consumer = BatchConsumer(bootstrap=services.kafka_bootstrap, group=f"g-{uuid4().hex}", topics=[topic.name])
    found: list[ConsumedRecord] = []
    while len(found) < 3:
        found += consumer.poll(records_max=100, timeout_ms=600_000, is_prompt=True)
    assert consumer.poll(records_max=1, timeout_ms=1, is_prompt=True) == []
    consumer.close()
    assert [record.value for record in found] == [b"0", b"1", b"2"]


def test_sent_records_arrive_once_committed_ones_do_not_return(services: StackAddresses) -> None:
    """At-least-once: what was committed is not read again, what was not is."""
    ensure_topics(services.kafka_bootstrap)
    producer = RecordProducer(bootstrap=services.kafka_bootstrap, produced_by="test")
    producer.send(AUDIT)
    producer.flush()
    group = f"g-{uuid4().hex}"
    first = BatchConsumer(bootstrap=services.kafka_bootstrap, group=group, topics=[AUDIT_EVENTS.name])
    there = group_lag(services.kafka_bootstrap, group, [AUDIT_EVENTS.name])  # other tests' are there too
    records = _read(first, there)
    first.close()
    again = BatchConsumer(bootstrap=services.kafka_bootstrap, group=group, topics=[AUDIT_EVENTS.name])
    assert {_place(record) for record in _read(again, there)} == {_place(record) for record in records}
    again.commit(records)
    again.close()
    positions = committed(services.kafka_bootstrap, group, [AUDIT_EVENTS.name])
    left = ranges_by_offset(services.kafka_bootstrap, {place: (offset, NEVER) for place, offset in positions.items()})
    assert not any(read(services.kafka_bootstrap, left))  # the markers of others' transactions may lie behind
    last = max((each for each in records if decode(each.value) == AUDIT), key=lambda each: each.timestamp_ms)
    assert last.partition == AUDIT_EVENTS.partition_of(AUDIT)
    assert [name for name, _ in last.headers] == ["event_type", "traceparent", "produced_by"]


def test_a_dead_letter_keeps_the_record_whole(services: StackAddresses) -> None:
    """A refused record is on `<topic>.dead` with its address, its bytes and the reason."""
    ensure_topics(services.kafka_bootstrap)
    producer = RecordProducer(bootstrap=services.kafka_bootstrap, produced_by="test")
    bad = ConsumedRecord(topic="audit.events", partition=1, offset=7, timestamp_ms=5, key=None, value=b"\xff\x00")
    producer.send_dead(bad, Rejected(reason=RejectReason.NOT_A_RECORD, detail="x" * 5_000))
    producer.flush()
    found = [
        decode(record.value) for record in tail(services.kafka_bootstrap, AUDIT_EVENTS.dead, last=1_000, follow=False)
    ]
    letters = [letter for letter in found if isinstance(letter, DeadLetter) and letter.record_value == b"\xff\x00"]
    assert len(letters) == 1
    assert (letters[0].source_topic, letters[0].source_partition, letters[0].source_offset) == ("audit.events", 1, 7)
    assert len(letters[0].detail) == 2_000


def test_a_record_to_no_topic_fails_at_flush(services: StackAddresses) -> None:
    """A missing topic is an error with the topic's name, not a silent loss."""
    producer = RecordProducer(bootstrap=services.kafka_bootstrap, produced_by="test")
    producer.send_raw(f"none-{uuid4().hex}", None, encode(AUDIT))
    with pytest.raises(BrokerError, match="undelivered: none-"):
        producer.flush()


@pytest.mark.parametrize("names", [(None, None), ("one", "two")])
def test_a_closed_member_leaves_its_partitions_at_once(
    services: StackAddresses, names: tuple[str | None, str | None]
) -> None:
    """A peer has them all long before the session of who left would have ended, whether members have names or not."""
    ensure_topics(services.kafka_bootstrap)
    group = f"t-{uuid4().hex}"
    members = [
        BatchConsumer(
            bootstrap=services.kafka_bootstrap,
            group=group,
            topics=[MARKET_PRICE.name],
            session_timeout_ms=SESSION_MS,
            instance_id=name,
        )
        for name in names
    ]
    half = MARKET_PRICE.partitions // 2
    assert _shared(members) == [half, half]
    members[0].close()
    assert _shared(members[1:]) == [MARKET_PRICE.partitions]
    members[1].close()


def _shared(members: list[BatchConsumer]) -> list[int]:
    """Serve members until they own all partitions between them; return how many each has."""
    owned: list[int] = []
    for _ in range(POLLS_MAX):
        for member in members:
            member.poll(records_max=1, timeout_ms=200)
        owned = [len(member.assignment()) for member in members]
        if sum(owned) == MARKET_PRICE.partitions and min(owned) > 0:
            break
    return owned
