"""`hcp replay run`: records of topics once more, onto topics of its own and no others."""

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from hcp.codecs import encode
from hcp.kafka.admin import ensure_topics
from hcp.kafka.producer import RecordProducer
from hcp.kafka.ranges import ranges_by_time, read
from hcp.kafka.records import ConsumedRecord
from hcp.kafka.replays import HEADER, SOURCE_HEADER
from hcp.model.units import EpochMs
from hcp.stack import StackAddresses
from hcp.stack.values import Service
from hcp.topics import MARKET_PRICE
from sinks.replayed import database_of
from tests.agent_process import ROOT
from tests.cli_runs import Said, hcp
from tests.examples import AT, PRICE
from tests.fix_services import OwnStack
from tests.sink_process import Database, fresh_database, sink_process, wait_until

pytestmark = pytest.mark.services
PARTITIONS: Final = 3
RECORDS: Final = 60
EVERY_MS: Final = 50
WAIT_SECONDS_MAX: Final = 120
GOLDEN: Final = ROOT / "tests" / "golden" / "records"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Two topics with records of known event times."""

    services: StackAddresses
    topics: tuple[str, ...]

    @property
    def named(self) -> list[str]:
        """The topics as options."""
        return [part for topic in self.topics for part in ("--topic", topic)]

    def run(self, *arguments: str) -> Said:
        """Run `hcp replay run` over the topics."""
        return hcp(self.services, "replay", "run", *self.named, *arguments)

    def records(self, topic: str) -> dict[int, list[ConsumedRecord]]:
        """Return what a topic holds, by partition."""
        return held(self.services.kafka_bootstrap, topic)

    def process(self, *arguments: str, folder: Path) -> "subprocess.Popen[str]":
        """Start `hcp replay run` as a process."""
        environment = {
            **os.environ,  # noqa: TID251  # for a child process
            "HCP_KAFKA_BOOTSTRAP": self.services.kafka_bootstrap,
            "HCP_STATE_DIR": str(folder),
        }
        command = [sys.executable, "-m", "hcp", "replay", "run", *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


def held(bootstrap: str, topic: str) -> dict[int, list[ConsumedRecord]]:
    """Return the records of a topic by partition."""
    found: dict[int, list[ConsumedRecord]] = defaultdict(list)
    for batch in read(bootstrap, ranges_by_time(bootstrap, [topic])):
        for record in batch:
            found[record.partition].append(record)
    return dict(found)


def made(bootstrap: str, name: str) -> str:
    """Make a topic."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, num_partitions=PARTITIONS)]).values():
        future.result(timeout=WAIT_SECONDS_MAX)
    return name


def filled(bootstrap: str, topic: str, values: Iterable[tuple[int, bytes]]) -> None:
    """Put values into partitions, at a broker time of their own."""
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for number, (partition, value) in enumerate(values):
        producer.produce(topic, value, b"key-%d" % partition, partition=partition, timestamp=AT + number * EVERY_MS)
    assert producer.flush(WAIT_SECONDS_MAX) == 0


def price(number: int) -> bytes:
    """Return a price; each is EVERY_MS after the one before it."""
    return encode(replace(PRICE, value=float(number), observed_at_ms=EpochMs(AT + number * EVERY_MS)))


@pytest.fixture
def source(services: StackAddresses) -> Source:
    """Return two topics of one test's own, their records interleaved in event time."""
    bootstrap, tag = services.kafka_bootstrap, uuid4().hex[:10]
    topics = tuple(made(bootstrap, f"t{tag}.{name}") for name in ("one", "two"))
    for place, topic in enumerate(topics):
        numbers = range(place, RECORDS, len(topics))
        filled(bootstrap, topic, ((number % PARTITIONS, price(number)) for number in numbers))
    return Source(services=services, topics=topics)


@pytest.fixture
def name() -> str:
    """Return a replay's name of one test's own."""
    return f"r-{uuid4().hex[:10]}"


def _is_copy(source: Source, name: str) -> None:
    """See that the replay's topics hold what the sources hold: same bytes, same partitions, same order, each once."""
    for topic in source.topics:
        originals, copies = source.records(topic), source.records(f"{name}.{topic}")
        assert copies.keys() == originals.keys()
        for partition, records in originals.items():
            found = copies[partition]
            assert [(each.key, each.value, each.timestamp_ms) for each in found] == [
                (each.key, each.value, each.timestamp_ms) for each in records
            ]
            assert [dict(each.headers)[SOURCE_HEADER].decode() for each in found] == [
                f"{topic}[{partition}]@{each.offset}" for each in records
            ]
            assert {dict(each.headers)[HEADER] for each in found} == {name.encode()}


def test_a_replay_is_a_copy_under_its_own_name_and_its_source_is_as_it_was(source: Source, name: str) -> None:
    """Said beforehand, run, listed, refused a second time, and dropped."""
    before = [source.records(topic) for topic in source.topics]
    dry = source.run("--into", name, "--dry-run")
    assert dry.code == 0, dry.err
    assert f"{(RECORDS - 1) * EVERY_MS / 1_000:,.1f} s" in dry.out
    said = source.run("--into", name, "--speed", "max")
    assert said.code == 0, said.err
    _is_copy(source, name)
    assert [source.records(topic) for topic in source.topics] == before
    assert "must be a new name" in source.run("--into", name).err
    assert name in hcp(source.services, "replay", "list").out
    assert hcp(source.services, "replay", "run", "--into", name, "--resume").code == 0
    dropped = hcp(source.services, "replay", "drop", name, "--yes")
    assert dropped.out.split() == [*sorted(f"{name}.{topic}" for topic in source.topics), f"{name}.replay"]
    assert [source.records(topic) for topic in source.topics] == before


def test_records_are_sent_in_event_time_order_at_the_pace_of_then(source: Source, name: str) -> None:
    """At three times the pace it takes a third of the time, whatever partition a record is in."""
    began = time.monotonic()
    said = source.run("--into", name, "--speed", "3")
    assert said.code == 0, said.err
    assert time.monotonic() - began >= (RECORDS - 1) * EVERY_MS / 1_000 / 3
    _is_copy(source, name)


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        (("--key", "key-1"), {number for number in range(RECORDS) if number % PARTITIONS == 1}),
        (("--by-event-time", "--from", str(AT + 500), "--to", str(AT + 1_000)), set(range(10, 20))),
        (("--from-event", "{one}[0]@1", "--to-event", "{one}[0]@2"), None),
        (("--offsets", "{one}[0]@1-2"), None),
    ],
)
def test_bounds_choose_what_is_sent(
    source: Source, name: str, bounds: tuple[str, ...], wanted: set[int] | None
) -> None:
    """By key, by event time, by event and by offset."""
    given = [each.replace("{one}", source.topics[0]) for each in bounds]
    topics = () if "--offsets" in bounds else source.named
    said = hcp(source.services, "replay", "run", *topics, "--into", name, "--speed", "max", *given)
    assert said.code == 0, said.err
    sent = [
        each
        for topic in source.topics
        if topics or topic == source.topics[0]
        for records in source.records(f"{name}.{topic}").values()
        for each in records
    ]
    if wanted is not None:
        assert {(each.timestamp_ms - AT) // EVERY_MS for each in sent} <= set(range(RECORDS))
        assert len(sent) == len(wanted)
    else:
        offsets = [dict(each.headers)[SOURCE_HEADER].decode() for each in sent]
        assert {f"{source.topics[0]}[0]@1", f"{source.topics[0]}[0]@2"} <= set(offsets)
        assert len(sent) < RECORDS


def test_a_replay_that_was_killed_goes_on_without_a_gap_or_a_repeat(source: Source, name: str, tmp_path: Path) -> None:
    """Kill -9 in the middle; meanwhile a second process is refused; the third finishes, each record once."""
    first = source.process(*source.named, "--into", name, "--speed", "0.02", folder=tmp_path)
    targets = [f"{name}.{topic}" for topic in source.topics]

    def count() -> int:
        return sum(len(each) for topic in targets for each in source.records(topic).values())

    def has_begun() -> bool:
        known = AdminClient({"bootstrap.servers": source.services.kafka_bootstrap}).list_topics(timeout=30).topics
        return set(targets) <= known.keys() and count() >= RECORDS // 10

    try:
        wait_until(has_begun, "some records sent")
        second = source.process("--into", name, "--resume", folder=tmp_path)
        assert "by one process at a time" in second.communicate(timeout=WAIT_SECONDS_MAX)[1]
        assert second.returncode == 1
    finally:
        first.kill()
        first.communicate(timeout=WAIT_SECONDS_MAX)
    assert count() < RECORDS
    third = source.process("--into", name, "--resume", "--speed", "max", folder=tmp_path)
    _, words = third.communicate(timeout=WAIT_SECONDS_MAX)
    assert third.returncode == 0, words
    _is_copy(source, name)


def test_what_retention_ate_is_said_and_refused_unless_allowed(source: Source, name: str) -> None:
    """The start of a range that is gone."""
    admin = AdminClient({"bootstrap.servers": source.services.kafka_bootstrap})
    for future in admin.delete_records([TopicPartition(source.topics[0], 0, 3)]).values():
        future.result(timeout=WAIT_SECONDS_MAX)
    said = source.run("--into", name, "--speed", "max")
    assert said.code == 1
    assert f"{source.topics[0]}/0 lacks what was before offset 3" in said.err
    assert source.run("--into", name, "--speed", "max", "--allow-gaps").code == 0
    _is_copy(source, name)


def test_corrupt_records_and_old_schemas_are_sent_as_they_are(services: StackAddresses, name: str) -> None:
    """What does not decode goes with its neighbours and is counted; a retired schema has its event time."""
    bootstrap = services.kafka_bootstrap
    topic = made(bootstrap, f"t{uuid4().hex[:10]}.mixed")
    old = [bytes.fromhex(path.read_text()) for path in sorted(GOLDEN.glob("recommendation.*.hex"))]
    values = [(0, price(1)), (0, b"rubbish"), *((1, each) for each in old), (0, price(2))]
    filled(bootstrap, topic, values)
    said = hcp(services, "replay", "run", "--topic", topic, "--into", name, "--speed", "max")
    assert said.code == 0, said.err
    _is_copy(Source(services=services, topics=(topic,)), name)
    cells = said.out.splitlines()[1].split()
    assert cells[:4:3] == [name, "1"], said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--into", "Replay"), "a replay's name must be"),
        (("--into", "r-none", "--resume"), "there must be a replay of that name"),
        (("--into", "r-none"), "--topic must be given"),
        (("--into", "r-none", "--topic", "no.such.topic"), "topic must exist"),
        (("--into", "r-none", "--topic", "market.price", "--speed", "0"), "--speed must be a number above 0"),
        (("--into", "r-none", "--topic", "market.price", "--to", "03:30"), "--to must be a whole time"),
        (("--into", "r-none", "--offsets", "market.price/0"), "--offsets must be TOPIC[PARTITION]@FIRST-LAST"),
        (("--into", "r-none", "--topic", "market.price", "--from-event", "nothing"), "an event must be"),
    ],
)
def test_mistakes_are_one_line(services: StackAddresses, arguments: tuple[str, ...], words: str) -> None:
    """Each says what must be and what was; nothing is made."""
    ensure_topics(services.kafka_bootstrap, [MARKET_PRICE])
    said = hcp(services, "replay", "run", *arguments)
    assert (said.code, words in said.err) == (1, True), said.err


@pytest.fixture
def database(services: StackAddresses) -> Iterable[Database]:
    """Give a live database of one test's own."""
    with fresh_database(services) as found:
        yield found


def test_a_sink_takes_a_replay_into_a_database_of_its_own(
    services: StackAddresses, database: Database, name: str, tmp_path: Path
) -> None:
    """Its rows are there, and none of them in the live database."""
    tag, bootstrap = f"t-{uuid4().hex[:10]}", services.kafka_bootstrap
    ensure_topics(bootstrap, [MARKET_PRICE])
    producer = RecordProducer(bootstrap=bootstrap, produced_by="test")
    for number in range(5):
        producer.send(replace(PRICE, facility_id=tag, value=float(number), observed_at_ms=EpochMs(AT + number)))
    producer.close()
    said = hcp(services, "replay", "run", "--topic", "market.price", "--key", tag, "--into", name, "--speed", "max")
    assert said.code == 0, said.err
    own = replace(database, dsn=database_of(database.dsn, name), name=f"{database.name}_{name.replace('-', '_')}")
    with sink_process(services, database, tmp_path, options=("--replay", name)) as sink:
        sink.wait_said("sink_ready")
        wait_until(lambda: own.count("market_prices where facility_id = %s", tag) == 5, "the replay's rows")
    assert database.count("market_prices") == 0
    own.drop()


def test_a_broker_that_dies_in_the_middle_is_waited_for(own_stack: OwnStack, name: str, tmp_path: Path) -> None:
    """Killed by -9 while records are sent at their pace: each is there once in the end."""
    bootstrap = own_stack.addresses.kafka_bootstrap
    topic = made(bootstrap, "t-dies.one")
    filled(bootstrap, topic, ((number % PARTITIONS, price(number)) for number in range(RECORDS * 3)))
    source = Source(services=own_stack.addresses, topics=(topic,))
    process = source.process(*source.named, "--into", name, folder=tmp_path)
    said: list[str] = []
    waiting = threading.Thread(target=lambda: said.extend(process.communicate(timeout=WAIT_SECONDS_MAX)))
    waiting.start()
    target = f"{name}.{topic}"

    def has_begun() -> bool:
        known = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=30).topics
        return target in known and sum(map(len, source.records(target).values())) > RECORDS // 10

    wait_until(has_begun, "some records sent")
    own_stack.kill(Service.KAFKA)
    waiting.join(timeout=WAIT_SECONDS_MAX)
    assert process.returncode == 0, said
    _is_copy(source, name)
