"""Bounded reading on a real broker: by time, by offset, cut by retention, with holes, and while others write."""

import threading
from uuid import uuid4

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from hcp.errors import BrokerError
from hcp.kafka.ranges import Range, ranges_by_offset, ranges_by_time, read
from hcp.kafka.records import ConsumedRecord
from hcp.stack import StackAddresses

pytestmark = pytest.mark.services
PARTITIONS = 3
STEP_MS = 1_000
BASE_MS = 1_790_000_000_000


@pytest.fixture
def topic(services: StackAddresses) -> str:
    """A topic of three partitions with 100 records each, one a second."""
    name = f"ranges-{uuid4().hex[:12]}"
    admin = AdminClient({"bootstrap.servers": services.kafka_bootstrap})
    config = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
    admin.create_topics([NewTopic(name, num_partitions=PARTITIONS, config=config)])[name].result(timeout=90)
    _write(services, name, 0, 100)
    return name


def _write(services: StackAddresses, topic: str, start: int, count: int) -> None:
    producer = Producer({"bootstrap.servers": services.kafka_bootstrap})
    for place in range(start, start + count):
        for partition in range(PARTITIONS):
            producer.produce(topic, str(place), partition=partition, timestamp=BASE_MS + place * STEP_MS)
        producer.poll(0)
    assert producer.flush(30) == 0


def _all(services: StackAddresses, ranges: tuple[Range, ...]) -> list[ConsumedRecord]:
    return [record for batch in read(services.kafka_bootstrap, ranges) for record in batch]


def test_a_stretch_of_time_is_read_whole_and_no_further(services: StackAddresses, topic: str) -> None:
    """From is included, to is not; within a partition offsets rise."""
    ranges = ranges_by_time(
        services.kafka_bootstrap, [topic], from_ms=BASE_MS + 20 * STEP_MS, to_ms=BASE_MS + 50 * STEP_MS
    )
    assert [(each.start, each.end, each.is_cut) for each in ranges] == [(20, 50, False)] * PARTITIONS
    records = _all(services, ranges)
    for partition in range(PARTITIONS):
        assert [each.offset for each in records if each.partition == partition] == list(range(20, 50))
    assert {each.timestamp_ms for each in records} == {BASE_MS + place * STEP_MS for place in range(20, 50)}


def test_no_bounds_mean_everything_there_is_now(services: StackAddresses, topic: str) -> None:
    """What is written while the range is read is not part of it."""
    ranges = ranges_by_time(services.kafka_bootstrap, [topic])
    writer = threading.Thread(target=_write, args=(services, topic, 100, 500))
    writer.start()
    records = _all(services, ranges)
    writer.join()
    assert len(records) == 100 * PARTITIONS


@pytest.mark.parametrize(("from_place", "to_place"), [(500, 600), (50, 50), (60, 50), (-50, -10)])
def test_nothing_there_is_nothing_read(services: StackAddresses, topic: str, from_place: int, to_place: int) -> None:
    """Past the end, empty, upside down and before the start: no record, no error, no waiting for one."""
    ranges = ranges_by_time(
        services.kafka_bootstrap,
        [topic],
        from_ms=BASE_MS + from_place * STEP_MS,
        to_ms=BASE_MS + to_place * STEP_MS,
    )
    assert sum(each.count for each in ranges) == 0
    assert _all(services, ranges) == []


def test_a_start_that_retention_ate_is_said(services: StackAddresses, topic: str) -> None:
    """Deleted records before the range do not count; deleted ones within it do."""
    admin = AdminClient({"bootstrap.servers": services.kafka_bootstrap})
    for future in admin.delete_records([TopicPartition(topic, 0, 30)]).values():
        future.result(timeout=90)
    early = ranges_by_time(services.kafka_bootstrap, [topic], from_ms=BASE_MS + 10 * STEP_MS)
    assert [(each.start, each.is_cut) for each in early] == [(30, True), (10, False), (10, False)]
    late = ranges_by_time(services.kafka_bootstrap, [topic], from_ms=BASE_MS + 40 * STEP_MS)
    assert not any(each.is_cut for each in late)
    (by_offset,) = ranges_by_offset(services.kafka_bootstrap, {(topic, 0): (10, 40)})
    assert (by_offset.start, by_offset.end, by_offset.is_cut) == (30, 40, True)
    assert [each.offset for each in _all(services, (by_offset,))] == list(range(30, 40))


def test_holes_end_no_range_early_and_keep_none_open(services: StackAddresses, topic: str) -> None:
    """A transaction's marker takes an offset that no reader is given, here the last one of a partition."""
    producer = Producer({"bootstrap.servers": services.kafka_bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, "sealed", partition=1, timestamp=BASE_MS + 100 * STEP_MS)
    producer.commit_transaction(30)
    # A commit is answered before its markers are written; whoever takes the name over is made to wait for them.
    Producer({"bootstrap.servers": services.kafka_bootstrap, "transactional.id": topic}).init_transactions(30)
    ranges = ranges_by_time(services.kafka_bootstrap, [topic])
    assert [each.end for each in ranges] == [100, 102, 100]
    assert len(_all(services, ranges)) == 100 * PARTITIONS + 1


def test_what_is_not_there_is_said(services: StackAddresses, topic: str) -> None:
    """A topic or partition that does not exist, and a broker that does not answer."""
    with pytest.raises(BrokerError, match="topic must exist"):
        ranges_by_time(services.kafka_bootstrap, ["no-such-topic"])
    with pytest.raises(BrokerError, match="must have the partition"):
        ranges_by_offset(services.kafka_bootstrap, {(topic, 7): (0, 1)})
