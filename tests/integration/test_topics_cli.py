"""`hcp topics` on a real broker: what is seen, sent, exported, imported and copied is what lies there, to the byte."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from hcp.browse.archive import Kept
from hcp.browse.moving import kept
from hcp.codecs import decode, encode
from hcp.kafka.admin import ensure_topics
from hcp.kafka.ranges import ranges_by_time, read
from hcp.model.ledger import Alert, AuditEvent
from hcp.stack import StackAddresses
from hcp.topics import ALERTS, AUDIT_EVENTS, Cleanup, Topic
from tests.cli_runs import Said, hcp
from tests.examples import ALERT

pytestmark = pytest.mark.services
PARTITIONS: Final = 3
BASE_MS: Final = 1_790_000_000_000
STEP_MS: Final = 60_000
COUNT: Final = 20
"""Records in each partition, one a minute."""
Row = tuple[int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Topics of one test's own."""

    services: StackAddresses
    topic: str

    def hcp(self, *arguments: str, stdin: str | None = None) -> Said:
        """Run `hcp topics`."""
        return hcp(self.services, "topics", *arguments, stdin=stdin)

    def make(self, ending: str, *, partitions: int = PARTITIONS) -> str:
        """Create a topic beside the first and return its name."""
        name = f"{self.topic}-{ending}" if ending else self.topic
        made = Topic(
            name=name,
            record=bytes,
            key="",
            partition_by="",
            partitions=partitions,
            cleanup=Cleanup.DELETE,
            retention_ms=-1,
            doc="",
        )
        ensure_topics(self.services.kafka_bootstrap, [made])
        return name

    def rows(self, topic: str) -> list[Row]:
        """Return all that a topic holds but for the offsets, partition by partition in its order."""
        ranges = ranges_by_time(self.services.kafka_bootstrap, [topic])
        records = [each for batch in kept(self.services.kafka_bootstrap, ranges) for each in batch]
        return [_row(each) for each in sorted(records, key=lambda each: (each.partition, each.offset))]

    def printed(self, *arguments: str) -> list[dict[str, Any]]:
        """Return what a command prints as JSON lines."""
        said = self.hcp(*arguments)
        assert said.code == 0, said.err
        return [json.loads(line) for line in said.out.splitlines()]


def _row(each: Kept) -> Row:
    return each.partition, each.timestamp_ms, each.key, each.value, each.headers


@pytest.fixture
def place(services: StackAddresses) -> Place:
    """A topic of alerts, rubbish, tombstones and empty values, its first partition left empty."""
    place = Place(services=services, topic=f"topics-{uuid4().hex[:12]}")
    topic = place.make("")
    producer = Producer({"bootstrap.servers": services.kafka_bootstrap})
    for number in range(COUNT):
        values = (encode(replace(ALERT, message=f"alert {number}")), b"\xff\x00rubbish", None, b"")
        for partition in range(1, PARTITIONS):
            producer.produce(
                topic,
                value=values[number % 4],
                key=(b"site-a", None, b"\xfe", b"")[number % 4],
                partition=partition,
                timestamp=BASE_MS + number * STEP_MS,
                headers=[("n", str(number).encode()), ("n", b""), ("none", None)],
            )
    assert producer.flush(30) == 0
    return place


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_topic_goes_through_a_file_byte_for_byte(place: Place, tmp_path: Path, ending: str) -> None:
    """Key, value, headers, timestamp, partition and order; a missing target is made when asked."""
    file = str(tmp_path / f"a.{ending}")
    done = place.hcp("export", place.topic, file)
    assert (done.code, done.out) == (0, "")
    assert f"{2 * COUNT} records" in done.err
    assert "must not exist without --force" in place.hcp("export", place.topic, file).err
    target = f"{place.topic}-again"
    assert "must exist with 3 partitions, was not there: give --create" in place.hcp("import", file, target).err
    assert place.hcp("import", file, target, "--create").code == 0
    assert place.rows(target) == place.rows(place.topic)
    assert "must be empty without --append, was 40 records" in place.hcp("import", file, target).err
    assert place.hcp("import", file, target, "--append").code == 0
    assert len(place.rows(target)) == 4 * COUNT


def test_a_topic_is_copied_byte_for_byte(place: Place) -> None:
    """Whole, by time and by key; the same partitions or none."""
    target = f"{place.topic}-copy"
    assert place.hcp("copy", place.topic, target, "--create").code == 0
    assert place.rows(target) == place.rows(place.topic)
    since, until = str(BASE_MS + 5 * STEP_MS), str(BASE_MS + 15 * STEP_MS)
    part = place.make("part")
    assert place.hcp("copy", place.topic, part, "--since", since, "--until", until, "-k", "site-a").code == 0
    assert place.rows(part) == [
        row for row in place.rows(place.topic) if row[2] == b"site-a" and int(since) <= row[1] < int(until)
    ]
    few = place.make("few", partitions=2)
    assert "must have 3 partitions" in place.hcp("copy", place.topic, few).err
    assert "must be another topic" in place.hcp("copy", place.topic, place.topic).err


def test_json_lines_go_through_a_pipe(place: Place) -> None:
    """`-` is standard output and input, with nothing else on it."""
    piped = place.hcp("export", place.topic, "-", "-p", "1", "-n", "4").out
    target = place.make("piped")
    assert place.hcp("import", "-", target, stdin=piped).code == 0
    assert place.rows(target) == [row for row in place.rows(place.topic) if row[0] == 1][-4:]


def test_an_empty_topic_is_exported_and_imported(place: Place, tmp_path: Path) -> None:
    """No records are no error, and no waiting."""
    empty, target = place.make("empty"), place.make("empty-again")
    for ending in ("parquet", "jsonl"):
        file = str(tmp_path / f"a.{ending}")
        assert "0 records" in place.hcp("export", empty, file).err
        assert "0 records" in place.hcp("import", file, target).err
    assert "0 records" in place.hcp("copy", empty, target).err
    assert place.hcp("tail", empty).out == ""
    assert place.rows(target) == []


def test_a_file_damaged_in_its_middle_says_where(place: Place, tmp_path: Path) -> None:
    """What lay before it may have been sent: the message names the line, and the topic must be empty to try again."""
    file = tmp_path / "a.jsonl"
    place.hcp("export", place.topic, str(file))
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:10], lines[10][:30], *lines[11:]]))
    done = place.hcp("import", str(file), place.make("damaged"))
    assert done.code == 1
    assert "line 11 of" in done.err


@pytest.mark.parametrize("command", ["import", "copy"])
def test_a_live_topic_is_not_written_by_mistake(place: Place, tmp_path: Path, command: str) -> None:
    """Registry topics and their dead-letter topics want --yes-live, whatever else is said."""
    file = str(tmp_path / "a.jsonl")
    place.hcp("export", place.topic, file)
    source = file if command == "import" else place.topic
    for name in ("alerts", "alerts.dead"):
        done = place.hcp(command, source, name, "--append", "--create")
        assert (done.code, done.err) == (1, f"the target must be no live topic without --yes-live, was {name}")


def test_a_live_topic_is_written_when_that_is_meant(place: Place) -> None:
    """With --yes-live, though it holds records; the audit says who, from where and why."""
    ensure_topics(place.services.kafka_bootstrap)
    site = f"x{uuid4().hex[:12]}"
    source = place.make("source", partitions=ALERTS.partitions)
    alert = replace(ALERT, facility_id=site)
    producer = Producer({"bootstrap.servers": place.services.kafka_bootstrap})
    producer.produce(source, encode(alert), key=site, partition=ALERTS.partition_of(alert))
    assert producer.flush(30) == 0
    done = place.hcp("copy", source, "alerts", "--yes-live", "--by", site, "--why", "a test")
    assert done.code == 0, done.err
    assert _alerts(place, site) == [alert]
    (event,) = (each for each in _values(place, AUDIT_EVENTS.name) if getattr(each, "actor", None) == site)
    assert isinstance(event, AuditEvent)
    assert (event.action, event.subject) == ("topic.written", "alerts")
    assert json.loads(event.after or "") == {"source": source, "why": "a test"}


def test_typed_records_are_sent_all_or_none(place: Place) -> None:
    """Mistakes are named by line and field and nothing is sent; else all are, and the audit says so."""
    ensure_topics(place.services.kafka_bootstrap)
    site = f"x{uuid4().hex[:12]}"
    fields = [msgspec.to_builtins(replace(ALERT, facility_id=site, message=f"{number}")) for number in range(3)]
    good = "".join(json.dumps(each) + "\n" for each in fields)
    wrong = place.hcp("produce", "alerts", stdin=good + json.dumps({**fields[0], "severity": "loud"}))
    assert wrong.code == 1
    assert "line 4: severity: Invalid enum value 'loud'" in wrong.err
    assert "1 of 4 records are wrong: none was sent" in wrong.err
    assert "3 records would be sent" in place.hcp("produce", "alerts", "--dry-run", stdin=good).out
    assert _alerts(place, site) == []
    assert place.hcp("produce", "alerts", "--event-time", "--by", site, "--why", "test", stdin=good).code == 0
    assert [each.message for each in _alerts(place, site)] == ["0", "1", "2"]
    audits = [each for each in _values(place, AUDIT_EVENTS.name) if isinstance(each, AuditEvent) and each.actor == site]
    assert [(each.action, each.subject) for each in audits] == [("topic.produced", "alerts")]
    assert json.loads(audits[0].after or "") == {"records": 3, "source": "-", "why": "test"}
    shown = place.hcp("tail", "alerts", "-o", "beginning", "-k", site).out
    again = place.hcp("produce", "alerts", "--dry-run", stdin=shown)
    assert again.out == "3 records would be sent to alerts\n"


def _alerts(place: Place, site: str) -> list[Alert]:
    return [each for each in _values(place, ALERTS.name) if isinstance(each, Alert) and each.facility_id == site]


def _values(place: Place, topic: str) -> list[object]:
    bootstrap = place.services.kafka_bootstrap
    return [decode(each.value) for batch in read(bootstrap, ranges_by_time(bootstrap, [topic])) for each in batch]


def test_tail_finds_by_time_offset_key_and_field(place: Place) -> None:
    """Each bound alone and together; what does not decode is shown with the reason."""
    rows = place.printed("tail", place.topic, "-p", "1", "-o", "beginning")
    assert [each["offset"] for each in rows] == list(range(COUNT))
    assert [each.get("rejected") for each in rows[:4]] == [None, "not_a_record", None, "not_a_record"]
    assert len(place.printed("tail", place.topic)) == 2 * 5
    last = place.printed("tail", place.topic, "-p", "2", "-o", "-3")
    assert [each["offset"] for each in last] == [COUNT - 3, COUNT - 2, COUNT - 1]
    timed = place.printed("tail", place.topic, "-p", "1", "--since", str(BASE_MS + 10 * STEP_MS), "-c", "2")
    assert [each["offset"] for each in timed] == [10, 11]
    found = place.printed("tail", place.topic, "-o", "beginning", "-k", "site-a", "--where", "message=alert 8")
    assert [(each["partition"], each["value"]["message"]) for each in found] == [(1, "alert 8"), (2, "alert 8")]
    assert "alert 16" in place.hcp("tail", place.topic, "-o", "beginning", "--table", "--where", "message~16").out


def test_list_and_describe_tell_what_is_there(place: Place) -> None:
    """Records, times, a group's lag; topics outside the registry too."""
    bootstrap = place.services.kafka_bootstrap
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": place.topic, "enable.auto.commit": False})
    consumer.commit(offsets=[TopicPartition(place.topic, 1, 15)], asynchronous=False)
    consumer.close()
    (row,) = [each for each in place.printed("list", "--all", "--json") if each["topic"] == place.topic]
    assert (row["partitions"], row["records"], row["record"]) == (PARTITIONS, 2 * COUNT, None)
    assert row["oldest"] == "2026-09-21T14:13:20.000Z"
    assert row["bytes"] > 0
    (lag,) = [each for each in place.printed("list", "--all", "--groups", "--json") if each["group"] == place.topic]
    assert (lag["partitions committed"], lag["lag"]) == ("1 of 3", COUNT + 5)
    described = place.hcp("describe", place.topic).out
    assert "not of the registry" in described
    assert f"3 partitions, {2 * COUNT} records" in described
    assert "Alert" in place.hcp("describe", "alerts").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("describe", "nothing"), "topic must be one of market.price"),
        (("export", "nothing", "a.jsonl"), "topic must exist"),
        (("export", "{topic}", "a.csv"), "must end in .parquet or .jsonl"),
        (("export", "{topic}", "no/such/folder/a.jsonl"), "must be writable"),
        (("export", "{topic}", "a.jsonl", "-p", "9"), "--partition must be from 0 to 2"),
        (("import", "no-such-file.parquet", "x"), "must be readable"),
        (("produce", "{topic}"), "topic must be one of market.price"),
        (("produce", "alerts.dead"), "topic must be one of market.price"),
        (("produce", "alerts", "no-such-file"), "must be readable text"),
        (("tail", "{topic}", "--since", "soon"), "--since must be a duration"),
        (("tail", "{topic}", "-o", "middle"), "--offset must be beginning, end"),
        (("tail", "{topic}", "--where", "message"), "--where must be FIELD=VALUE"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    """Exit code 1, what must be and what was; no file is left."""
    monkeypatch.chdir(tmp_path)
    done = place.hcp(*(each.format(topic=place.topic) for each in arguments))
    assert done.code == 1
    assert words in done.err
    assert "\n" not in done.err
    assert list(tmp_path.iterdir()) == []
