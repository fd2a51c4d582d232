"""What a replay of topics is to do: which offsets, whose keys, how fast; kept on a topic of its own, to go on by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from hcp.clock import seconds
from hcp.errors import BrokerError, HcpError, SettingsError
from hcp.kafka.admin import ensure_topics
from hcp.kafka.forwarding import connect
from hcp.kafka.ranges import Range, ranges_by_time, read
from hcp.kafka.records import address_in
from hcp.kafka.replays import SOURCE_HEADER, replay_name, topic_in
from hcp.topics import Cleanup, Topic

CONTROL: Final = "replay"
"""Name of the topic that holds the plan, behind the replay's own."""
PLAN_KEY: Final = b"plan"
ENDED_KEY: Final = b"ended"
ANSWER_MS_MAX: Final = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """One replay.

    Attributes:
        into: Its name.
        ranges: What is read; ends were fixed when it was planned.
        partitions: How many each topic has.
        keys: Only records with one of these; all when empty.
        speed: Event seconds a wall second; None for as fast as possible.
        from_ms: Event time before which nothing is sent; None for no bound.
        to_ms: Likewise from which on.
        planned_at_ms: Wall time.
        planned_by: Who.
    """

    into: str
    ranges: tuple[Range, ...]
    partitions: dict[str, int]
    keys: tuple[str, ...]
    speed: float | None
    from_ms: int | None
    to_ms: int | None
    planned_at_ms: int
    planned_by: str


def begin(bootstrap: str, plan: RunPlan) -> None:
    """Make the replay's topics and write the plan down.

    Raises:
        SettingsError: There is a replay of that name.
        BrokerError: The broker does not answer.
    """
    control = control_topic(plan.into)
    if not ensure_topics(bootstrap, [control]):
        raise SettingsError(f"--into must be a new name, was {plan.into}: go on with --resume, or `hcp replay drop` it")
    targets = [target_topic(plan.into, topic, count) for topic, count in plan.partitions.items()]
    made = ensure_topics(bootstrap, targets)
    if len(made) != len(targets):
        raise SettingsError(f"--into must be a new name, was {plan.into}: its topics exist; `hcp replay drop` it")
    note(bootstrap, plan.into, PLAN_KEY, msgspec.json.encode(plan))


def note(bootstrap: str, replay: str, key: bytes, value: bytes) -> None:
    """Write a record onto the replay's own topic.

    Raises:
        BrokerError: It was not taken.
    """
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    connect(producer, topic_in(replay, CONTROL))
    producer.produce(topic_in(replay, CONTROL), value, key)
    if producer.flush(seconds(ANSWER_MS_MAX)):
        raise BrokerError(f"{topic_in(replay, CONTROL)} must take a record, did not in {ANSWER_MS_MAX} ms")


def planned(bootstrap: str, replay: str) -> tuple[RunPlan, bool]:
    """Return the plan of a replay and whether it has ended.

    Raises:
        HcpError: There is no such replay.
    """
    records = _control_records(bootstrap, replay)
    for key, value in records:
        if key == PLAN_KEY and value is not None:
            return msgspec.json.decode(value, type=RunPlan), any(each == ENDED_KEY for each, _ in records)
    raise HcpError(f"{replay} must have a plan, was never begun: `hcp replay drop` it and begin anew")


def _control_records(bootstrap: str, replay: str) -> list[tuple[bytes | None, bytes | None]]:
    try:
        ranges = ranges_by_time(bootstrap, [topic_in(replay, CONTROL)])
    except BrokerError as error:
        raise HcpError(f"there must be a replay of that name, see `hcp replay list`, was {replay}: {error}") from error
    return [(record.key, record.value) for batch in read(bootstrap, ranges) for record in batch]


def replays(bootstrap: str) -> list[str]:
    """Return the names of the replays on the broker, sorted.

    Raises:
        BrokerError: The broker does not answer.
    """
    topics = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=seconds(ANSWER_MS_MAX)).topics
    return sorted(name.removesuffix(f".{CONTROL}") for name in topics if name.endswith(f".{CONTROL}"))


def drop(bootstrap: str, replay: str) -> list[str]:
    """Delete the topics of a replay, its own last, and nothing else; return their names.

    Raises:
        HcpError: There is no such replay.
        BrokerError: The broker does not answer or refuses.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap})
    prefix, control = f"{replay_name(replay)}.", topic_in(replay, CONTROL)
    names = [name for name in admin.list_topics(timeout=seconds(ANSWER_MS_MAX)).topics if name.startswith(prefix)]
    if control not in names:
        raise HcpError(f"there must be a replay of that name, see `hcp replay list`, was {replay}")
    names.sort(key=lambda name: (name == control, name))
    for name in names:
        for future in admin.delete_topics([name]).values():
            try:
                future.result(timeout=seconds(ANSWER_MS_MAX))
            except Exception as error:
                raise BrokerError(f"{name} must be deleted, was not: {error}") from error
    return names


def left(bootstrap: str, plan: RunPlan) -> tuple[Range, ...]:
    """Return what is still to be read: each partition from behind the last record that the replay holds of it.

    Raises:
        BrokerError: The broker does not answer.
    """
    names = {topic_in(plan.into, topic): topic for topic in plan.partitions}
    done: dict[tuple[str, int], int] = {}
    for target in ranges_by_time(bootstrap, names):
        for batch in read(bootstrap, [replace(target, start=max(target.start, target.end - 1))]):
            for record in batch:
                done[names[target.topic], target.partition] = _source_offset(dict(record.headers), record.topic)
    return tuple(replace(each, start=max(each.start, done.get(each.place, -1) + 1)) for each in plan.ranges)


def _source_offset(headers: dict[str, bytes], topic: str) -> int:
    found = address_in(headers.get(SOURCE_HEADER, b"").decode(errors="replace"))
    if found is None:
        raise HcpError(f"{topic} must hold what a replay wrote, was written to by somebody else")
    return found[2]


def control_topic(replay: str) -> Topic:
    """Describe the replay's own topic."""
    return _plain(topic_in(replay, CONTROL), 1, "Plan of a replay.")


def target_topic(replay: str, topic: str, partitions: int) -> Topic:
    """Describe a topic of the replay: with as many partitions as its source, nothing of it forgotten."""
    return _plain(topic_in(replay, topic), partitions, f"{topic}, replayed.")


def _plain(name: str, partitions: int, doc: str) -> Topic:
    return Topic(
        name=name,
        record=bytes,
        key="",
        partition_by="",
        partitions=partitions,
        cleanup=Cleanup.DELETE,
        retention_ms=-1,
        doc=doc,
    )


def gaps(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """Return the ranges of which retention has eaten the start."""
    return tuple(each for each in ranges if each.is_cut)
