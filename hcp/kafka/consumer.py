"""A consumer that hands out batches and commits only what its caller says is done."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, Literal

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from hcp.clock import seconds
from hcp.errors import BrokerError
from hcp.kafka.records import ConsumedRecord

SESSION_MS: Final = 10_000
FETCH_WAIT_MS: Final = 20
"""How long the broker may hold a fetch for more data: bounds the latency of a lone record."""
QUEUE_BYTES_MAX: Final = 64 * 1024 * 1024
"""What librdkafka may have fetched and not handed out yet, its own default."""
FETCH_BYTES_MAX: Final = 50 * 1024 * 1024
"""Of one answer of the broker, likewise."""
ANSWER_MS_MAX: Final = 5_000
LEAVE_MS: Final = 500
"""How long a named member is served after it gave up its topics, so that its leaving is sent."""
_BYTES_PER_KIB: Final = 1_024
Partition = tuple[str, int]
OnPartitions = Callable[[tuple[Partition, ...]], None]

_log = structlog.get_logger(__name__)


class BatchConsumer:
    """Member of a consumer group; at-least-once: `commit` after the effect.

    Not safe for use by two threads at once.
    """

    def __init__(
        self,
        *,
        bootstrap: str,
        group: str,
        topics: Iterable[str],
        client_id: str = "hcp",
        instance_id: str | None = None,
        session_timeout_ms: int = SESSION_MS,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        assignment: Literal["range", "roundrobin"] = "range",
        prefix: str = "",
        on_assigned: OnPartitions | None = None,
        on_revoked: OnPartitions | None = None,
    ) -> None:
        """Join `group`, each member of which must name the same `assignment`.

        Who comes back with the same `instance_id`, no two members at a time, takes its partitions over at once instead
        of after `session_timeout_ms`; for as long nobody else is given them, unless it was closed.

        "range" gives one member the same partitions of every topic; "roundrobin" spreads each topic's evenly, and
        neighbouring ones apart. Topics are read under names that begin with `prefix`; everything that goes in or out
        here is named without it. `on_assigned` may `seek` or `hold`, and runs inside `poll`, as `on_revoked` does.
        """
        self._assigned_hook, self._revoked_hook = on_assigned, on_revoked
        self._seeks: dict[Partition, int] = {}
        self._bootstrap = bootstrap
        self._is_down_logged = False
        self._is_held = False
        self._is_named = instance_id is not None
        self._prefix = prefix
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "client.id": client_id,
                **({} if instance_id is None else {"group.instance.id": instance_id}),
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": session_timeout_ms,
                "heartbeat.interval.ms": 1_000,
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                "queued.max.messages.kbytes": queue_bytes_max // _BYTES_PER_KIB,
                "fetch.max.bytes": min(queue_bytes_max, FETCH_BYTES_MAX),
                "partition.assignment.strategy": assignment,
            }
        )
        named = [prefix + topic for topic in topics]
        self._consumer.subscribe(named, on_assign=self._on_assign, on_revoke=self._on_revoke)

    def poll(self, *, records_max: int, timeout_ms: int, is_prompt: bool = False) -> list[ConsumedRecord]:
        """Return up to `records_max` records; empty after `timeout_ms`.

        For so many it waits all of the time, which makes large batches; when prompt, only for the first of them, and
        then takes what has come.

        A broker that is away is waited for: librdkafka reconnects, this says so once.

        Raises:
            BrokerError: A topic does not exist, or another error that waiting will not mend.
        """
        records = []
        messages = self._consumer.consume(1 if is_prompt else records_max, timeout=seconds(timeout_ms))
        if is_prompt and messages and records_max > 1:
            messages += self._consumer.consume(records_max - 1, timeout=0)
        for message in messages:
            error = message.error()
            if error is None:
                records.append(self._record(message))
            else:
                self._raise_or_wait(error)
        if records and self._is_down_logged:
            self._is_down_logged = False
            _log.info("broker_available_again", bootstrap=self._bootstrap)
        return records

    def _record(self, message: Message) -> ConsumedRecord:
        record = record_of(message)
        return replace(record, topic=record.topic.removeprefix(self._prefix)) if self._prefix else record

    def _place(self, topic: str, partition: int, offset: int) -> TopicPartition:
        """Return an offset of a partition as the broker names it."""
        return TopicPartition(self._prefix + topic, partition, offset)

    def _named(self, item: TopicPartition) -> Partition:
        return item.topic.removeprefix(self._prefix), item.partition

    def _raise_or_wait(self, error: KafkaError) -> None:
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise BrokerError(f"topics must exist, was: {error.str()}; run `hcp topics create`")
        if error.fatal():
            raise BrokerError(f"consumer must keep its group, was: {error.str()}")
        if not self._is_down_logged:
            self._is_down_logged = True
            _log.warning("broker_unavailable", bootstrap=self._bootstrap, error=error.str())

    def commit_soon(self, next_offsets: Mapping[Partition, int]) -> None:
        """Ask for a commit and do not wait: for displays of the lag, where the truth is kept elsewhere."""
        offsets = [self._place(topic, number, offset) for (topic, number), offset in next_offsets.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            _log.warning("commit_failed", error=error.args[0].str())

    def commit(self, records: Iterable[ConsumedRecord]) -> None:
        """Commit past every record given, before returning.

        Raises:
            BrokerError: The group has moved on (another member owns the partition) or the broker does not answer.
        """
        next_offsets: dict[Partition, int] = {}
        for record in records:
            at = (record.topic, record.partition)
            next_offsets[at] = max(next_offsets.get(at, 0), record.offset + 1)
        if not next_offsets:
            return
        try:
            self._consumer.commit(
                offsets=[self._place(topic, number, offset) for (topic, number), offset in next_offsets.items()],
                asynchronous=False,
            )
        except KafkaException as error:
            raise BrokerError(f"offsets must be committed, was: {error.args[0].str()}") from error

    def assignment(self) -> tuple[Partition, ...]:
        """Return the partitions owned now."""
        return tuple(self._named(item) for item in self._consumer.assignment())

    def ends(self) -> dict[Partition, int]:
        """Return the offset that the next record of each partition owned gets.

        Raises:
            BrokerError: The broker does not answer.
        """
        asked = [TopicPartition(item.topic, item.partition, OFFSET_END) for item in self._consumer.assignment()]
        try:
            found = self._consumer.offsets_for_times(asked, timeout=seconds(ANSWER_MS_MAX)) if asked else []
        except KafkaException as error:
            raise BrokerError(f"offsets must be answered, was: {error.args[0].str()}") from error
        return {self._named(item): item.offset for item in found if item.error is None and item.offset >= 0}

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Read a partition from `offset`; within `on_assigned` it replaces the committed offset."""
        if (topic, partition) in self._seeks:
            self._seeks[topic, partition] = offset
        else:
            self._consumer.seek(self._place(topic, partition, offset))

    def hold(self) -> None:
        """Hand out nothing, of partitions yet to be assigned neither, until `go_on`; `poll` keeps the membership."""
        self._is_held = True
        self._consumer.pause(self._consumer.assignment())

    def go_on(self, offsets: Mapping[Partition, int]) -> None:
        """Read every partition owned from its offset in `offsets`, whatever was handed out of it before."""
        self._is_held = False
        owned = [self._place(*at, offsets[at]) for at in self.assignment()]
        self._consumer.assign(owned)
        self._consumer.resume(owned)

    def close(self) -> None:
        """Leave the group at once, so that peers need not wait for the session to end.

        A member with an `instance_id` does not leave by closing (KIP-345): it has to unsubscribe and be served first.
        """
        if self._is_named:
            self._consumer.unsubscribe()
            self._consumer.poll(seconds(LEAVE_MS))
        self._consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._seeks = {self._named(item): OFFSET_INVALID for item in partitions}  # what is committed
        if self._assigned_hook is not None:
            self._assigned_hook(tuple(self._seeks))
        for item in partitions:
            # Held, it is told later where to read: until then nothing may be asked for that could answer too late, and
            # what is committed may lie behind records that the caller never had.
            item.offset = OFFSET_BEGINNING if self._is_held else self._seeks[self._named(item)]
        self._seeks = {}
        consumer.assign(partitions)
        if self._is_held:
            consumer.pause(partitions)

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._revoked_hook is not None:
            self._revoked_hook(tuple(self._named(item) for item in partitions))


def record_of(message: Message) -> ConsumedRecord:
    """Turn a message without an error into a value."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None, "a message without an error has an address"
    assert partition is not None, "as topic"
    assert offset is not None, "as topic"
    headers = tuple((str(pair[0]), _bytes(pair[1]) or b"") for pair in (message.headers() or []))
    return ConsumedRecord(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp_ms=message.timestamp()[1],
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        headers=headers,
    )


def _bytes(raw: bytes | str | None) -> bytes | None:
    return raw.encode() if isinstance(raw, str) else raw
