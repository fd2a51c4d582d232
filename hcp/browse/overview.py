"""What topics hold: records, bytes, oldest and newest time, and how far each group lags; nothing is read."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # documented to be here

from hcp.clock import seconds
from hcp.errors import BrokerError
from hcp.kafka.log_dirs import bytes_on_disk
from hcp.kafka.ranges import Place

ANSWER_MS_MAX: Final = 15_000
GROUPS_MAX: Final = 1_000
_LOG_CRITICAL: Final = 2
"""As syslog counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionState:
    """One partition as it is now.

    Attributes:
        partition: Its number.
        start: Oldest offset kept.
        end: The offset the next record gets.
        oldest_ms: Broker timestamp of its first record; None without one.
        newest_ms: Greatest broker timestamp; None without a record.
        size_bytes: On disk, without replicas; None when the broker does not say.
    """

    partition: int
    start: int
    end: int
    oldest_ms: int | None
    newest_ms: int | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicState:
    """One topic as it is now; without partitions it does not exist."""

    name: str
    partitions: tuple[PartitionState, ...]

    @property
    def records(self) -> int:
        """Sum of end less start; compaction and transaction markers make it an upper bound."""
        return sum(each.end - each.start for each in self.partitions)

    @property
    def size_bytes(self) -> int | None:
        """Sum over its partitions; None when any is unknown."""
        sizes = [each.size_bytes for each in self.partitions if each.size_bytes is not None]
        return sum(sizes) if len(sizes) == len(self.partitions) else None

    @property
    def oldest_ms(self) -> int | None:
        """Broker timestamp of its oldest record."""
        return min((each.oldest_ms for each in self.partitions if each.oldest_ms is not None), default=None)

    @property
    def newest_ms(self) -> int | None:
        """Broker timestamp of its newest record."""
        return max((each.newest_ms for each in self.partitions if each.newest_ms is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLag:
    """What a consumer group has yet to commit of a topic.

    Attributes:
        group: Its name.
        topic: The topic.
        partitions: How many of them it has committed in.
        lag: Records, an upper bound as `TopicState.records`.
    """

    group: str
    topic: str
    partitions: int
    lag: int


def topic_names(bootstrap: str, *, answer_ms_max: int = ANSWER_MS_MAX) -> tuple[str, ...]:
    """Return every topic on the broker but Kafka's own, by name.

    Raises:
        BrokerError: The broker does not answer within `answer_ms_max`.
    """
    found = _partitions(_admin(bootstrap), bootstrap, answer_ms_max)
    return tuple(sorted(name for name in found if not name.startswith("__")))


def topic_states(bootstrap: str, names: Iterable[str], *, sizes: bool = True) -> tuple[TopicState, ...]:
    """Describe topics in the order given.

    Raises:
        BrokerError: The broker does not answer.
    """
    admin = _admin(bootstrap)
    present = _partitions(admin, bootstrap)
    wanted = [(name, number) for name in names for number in present.get(name, ())]
    on_disk = (bytes_on_disk(bootstrap) if sizes else None) or {}
    try:
        starts = _offsets(admin, wanted, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        ends = _offsets(admin, wanted, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        filled = [place for place in wanted if ends[place].offset > starts[place].offset]
        oldest = _offsets(admin, filled, OffsetSpec.for_timestamp(0))
        newest = _offsets(admin, filled, OffsetSpec.max_timestamp())  # type: ignore[no-untyped-call]
    except KafkaException as error:
        raise _unanswered(bootstrap, error) from error
    return tuple(
        TopicState(
            name=name,
            partitions=tuple(
                PartitionState(
                    partition=number,
                    start=starts[name, number].offset,
                    end=ends[name, number].offset,
                    oldest_ms=_time(oldest.get((name, number))),
                    newest_ms=_time(newest.get((name, number))),
                    size_bytes=on_disk.get((name, number)),
                )
                for number in present.get(name, ())
            ),
        )
        for name in names
    )


def group_lags(bootstrap: str, states: Iterable[TopicState]) -> tuple[GroupLag, ...]:
    """Return the lag of every group that has committed in any of these topics; what it never committed counts whole.

    Raises:
        BrokerError: The broker does not answer, or has more than GROUPS_MAX groups.
    """
    admin = _admin(bootstrap)
    lags: list[GroupLag] = []
    try:
        groups = sorted(each.group_id for each in _result(admin.list_consumer_groups()).valid)
        if len(groups) > GROUPS_MAX:
            raise BrokerError(f"groups must be at most {GROUPS_MAX}, was {len(groups)}")
        asked: list[Future[ConsumerGroupTopicPartitions]] = []
        for group in groups:  # the call takes one group at a time
            asked += admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
        for group, answer in zip(groups, asked, strict=True):
            positions = _result(answer).topic_partitions or []
            committed = {(each.topic, each.partition): each.offset for each in positions if each.offset >= 0}
            lags += [lag for state in states if (lag := _lag(group, state, committed)) is not None]
    except KafkaException as error:
        raise _unanswered(bootstrap, error) from error
    return tuple(lags)


def _lag(group: str, state: TopicState, committed: Mapping[Place, int]) -> GroupLag | None:
    known = [each for each in state.partitions if (state.name, each.partition) in committed]
    if not known:
        return None
    lag = sum(max(each.end - committed.get((state.name, each.partition), each.start), 0) for each in state.partitions)
    return GroupLag(group=group, topic=state.name, partitions=len(known), lag=lag)


def _admin(bootstrap: str) -> AdminClient:
    # librdkafka would tell of a broker that is away on standard error, beside the one line that says so.
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": _LOG_CRITICAL})


def _partitions(admin: AdminClient, bootstrap: str, answer_ms_max: int = ANSWER_MS_MAX) -> dict[str, list[int]]:
    try:
        found = admin.list_topics(timeout=seconds(answer_ms_max)).topics
    except KafkaException as error:
        raise _unanswered(bootstrap, error) from error
    return {name: sorted(topic.partitions) for name, topic in found.items() if topic.error is None}


def _offsets(admin: AdminClient, places: Iterable[Place], spec: OffsetSpec) -> dict[Place, Any]:
    asked = {TopicPartition(*place): spec for place in places}
    if not asked:
        return {}
    answers = admin.list_offsets(asked, request_timeout=seconds(ANSWER_MS_MAX))
    return {(place.topic, place.partition): _result(answer) for place, answer in answers.items()}


def _result(answer: "Future[Any]") -> Any:  # noqa: ANN401  # what was asked for
    return answer.result(timeout=seconds(ANSWER_MS_MAX))


def _time(found: Any) -> int | None:  # noqa: ANN401  # ListOffsetsResultInfo, or None where nothing was asked
    return None if found is None or found.timestamp < 0 else int(found.timestamp)


def _unanswered(bootstrap: str, error: KafkaException) -> BrokerError:
    return BrokerError(f"Kafka must answer at {bootstrap}, was: {error.args[0].str()}; try `hcp doctor`")
