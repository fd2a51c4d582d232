"""`hcp dead` on a real broker: what is refused is found, and handled exactly once whatever dies or runs beside it."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from hcp.browse.auditing import operator_here
from hcp.browse.letters import Fate, Wanted, fates, letters
from hcp.browse.redrive import REDRIVEN_FROM, handle
from hcp.codecs import decode, encode
from hcp.errors import BrokerError
from hcp.kafka.admin import ensure_topics
from hcp.kafka.producer import RecordProducer
from hcp.kafka.ranges import ranges_by_time, read
from hcp.kafka.records import ConsumedRecord
from hcp.kafka.transactions import TransactionalProducer
from hcp.model.ledger import Alert
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.units import EpochMs
from hcp.stack import StackAddresses
from hcp.topics import ALERTS, AUDIT_EVENTS
from tests.cli_runs import Said, hcp
from tests.examples import ALERT as ANY_ALERT
from tests.examples import AUDIT

pytestmark = pytest.mark.services
ROOT: Final = Path(__file__).parents[2]
PARTITION: Final = 5
ALERT: Final = replace(ANY_ALERT, facility_id="site-of-dead-letters")
"""Of a site that nobody else watches: redriven, it lies on the live topic."""
REDRIVEN: Final = """
import os, signal, sys
from hcp.browse import redrive
from hcp.browse.auditing import operator_here
from hcp.browse.letters import Fate, Wanted
from hcp.kafka.transactions import TransactionalProducer

bootstrap, key, moment, batches = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
redrive.BATCH_LETTERS_MAX = 4
commit, done = TransactionalProducer._commit, 0

def dying(self):
    global done
    done += 1
    if done == batches and moment == "before":
        self._producer.flush(30)
        os.kill(os.getpid(), signal.SIGKILL)
    commit(self)
    if done == batches and moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)

TransactionalProducer._commit = dying
wanted = Wanted(topics=("alerts.dead",), key=key)
redrive.handle(bootstrap, wanted, fate=Fate.REDRIVEN, operator=operator_here())
"""
"""A redrive in batches of 4, killed within a transaction that is delivered, not committed, or after one, or never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """Dead letters of this test's own, told from others' by their key."""

    services: StackAddresses
    key: str

    @property
    def wanted(self) -> Wanted:
        """All of them."""
        return Wanted(topics=(ALERTS.dead,), key=self.key)

    def refuse(self, values: Iterable[bytes], *, reason: RejectReason = RejectReason.UNKNOWN_FACILITY) -> None:
        """Send records to the dead-letter topic as a process does that refuses them."""
        producer = RecordProducer(bootstrap=self.services.kafka_bootstrap, produced_by="test")
        for offset, value in enumerate(values):
            record = ConsumedRecord(
                topic=ALERTS.name,
                partition=PARTITION,
                offset=offset,
                timestamp_ms=1_790_000_000_000,
                key=self.key.encode(),
                value=value,
            )
            producer.send_dead(record, Rejected(reason=reason, detail=f"site of {self.key} must be known, was not"))
        producer.flush()

    def hcp(self, *arguments: str) -> Said:
        """Run `hcp dead`."""
        return hcp(self.services, "dead", *arguments)

    def handle(self, fate: Fate = Fate.REDRIVEN) -> tuple[int, int, int]:
        """Handle all; return how many were done, done before and refused."""
        done = handle(self.services.kafka_bootstrap, self.wanted, fate=fate, operator=operator_here(why="a test"))
        return done.done, done.already, len(done.refused)

    def on_topic(self) -> list[ConsumedRecord]:
        """Return what a reader of committed records finds of this test's on the live topic."""
        return [
            record
            for batch in read(
                self.services.kafka_bootstrap, ranges_by_time(self.services.kafka_bootstrap, [ALERTS.name])
            )
            for record in batch
            if record.key == self.key.encode()
        ]

    def addresses(self) -> list[str]:
        """Return the names of all letters."""
        return [str(each.address) for each in letters(self.services.kafka_bootstrap, ALERTS.dead, self.wanted)]


@pytest.fixture
def post(services: StackAddresses) -> Post:
    """Give a key that no other test has."""
    ensure_topics(services.kafka_bootstrap)
    return Post(services=services, key=f"x{uuid4().hex[:12]}")


def alerts(count: int) -> list[bytes]:
    """Return the bytes of so many different alerts."""
    return [encode(replace(ALERT, message=f"alert {number}")) for number in range(count)]


def test_letters_are_redriven_once(post: Post) -> None:
    """Bytes, key and partition as they were, the letter named in a header, and an audit event with who and why."""
    post.refuse(alerts(3))
    chosen = ("--topic", "alerts", "--key", post.key)
    listed = [json.loads(line) for line in post.hcp("list", *chosen, "--json").out.splitlines()]
    assert [each["letter"] for each in listed] == post.addresses()
    assert {each["reason"] for each in listed} == {"unknown_facility"}
    assert "3 letters would be redriven" in post.hcp("redrive", *chosen, "--dry-run").out
    assert post.on_topic() == []
    first = post.hcp("redrive", *chosen, "--yes", "--why", "the site is in the fleet file now", "--by", "ada")
    assert (first.code, first.out) == (0, "3 redriven, 0 handled before, 0 refused\n"), first.err
    records = post.on_topic()
    assert [each.value for each in records] == alerts(3)
    assert {(each.partition, each.key) for each in records} == {(PARTITION, post.key.encode())}
    assert [dict(each.headers)[REDRIVEN_FROM].decode() for each in records] == post.addresses()
    again = post.hcp("redrive", *chosen, "--yes")
    assert (again.code, again.out) == (0, "0 redriven, 3 handled before, 0 refused\n")
    assert len(post.on_topic()) == 3
    assert "nothing there" in post.hcp("list", *chosen).out
    event = fates(post.services.kafka_bootstrap, since_ms=0)[post.addresses()[0]]
    assert (event.actor, event.action) == ("ada", "dead.redriven")
    assert event.after == '{"why": "the site is in the fleet file now"}'


def test_a_letter_that_would_be_refused_again_stays(post: Post) -> None:
    """Rubbish, a record of another topic and one from the future are said with the reason; the others go."""
    early = encode(replace(ALERT, observed_at_ms=EpochMs(ALERT.observed_at_ms + 10**12)))
    wrong = encode(replace(AUDIT, subject="x"))
    post.refuse([b"\xc3\x01 rubbish that is long", *alerts(1), wrong, b"", early], reason=RejectReason.UNDECODABLE)
    done = post.hcp("redrive", "-t", "alerts", "-k", post.key, "-r", "undecodable", "--yes")
    assert (done.code, done.out) == (1, "1 redriven, 0 handled before, 4 refused\n")
    for words in (
        "fingerprint must be one of schemas/avro",
        "a record of alerts must be of class Alert, was AuditEvent",
        "must begin with c301",
        "observed_at_ms must be at most",
    ):
        assert words in done.err
    assert [each.value for each in post.on_topic()] == alerts(1)
    assert post.handle(Fate.DISCARDED) == (4, 1, 0)
    assert post.handle() == (0, 5, 0)
    assert len(post.on_topic()) == 1


@pytest.mark.parametrize(("moment", "counted"), [("before", 4), ("after", 8)])
def test_a_redrive_killed_in_its_middle_is_finished_by_the_next(post: Post, moment: str, counted: int) -> None:
    """Die by kill -9 with a batch delivered but not committed, and just after a commit: each record is there once."""
    values = alerts(11)
    post.refuse(values)
    killed = subprocess.run(
        [sys.executable, "-c", REDRIVEN, post.services.kafka_bootstrap, post.key, moment, "2"],
        cwd=ROOT,
        check=False,
        timeout=90,
    )
    assert killed.returncode == -signal.SIGKILL
    assert post.handle() == (len(values) - counted, counted, 0)
    records = post.on_topic()
    assert [each.value for each in records] == values
    assert [dict(each.headers)[REDRIVEN_FROM].decode() for each in records] == post.addresses()
    assert set(post.addresses()) <= set(fates(post.services.kafka_bootstrap, since_ms=0))


def test_two_redrives_at_once_do_each_letter_once(post: Post) -> None:
    """Whoever begins later takes over; the other says so; a last one finds what is left."""
    values = alerts(60)
    post.refuse(values)
    command = [sys.executable, "-c", REDRIVEN, post.services.kafka_bootstrap, post.key, "never", "0"]
    running = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        _, words = process.communicate(timeout=90)
        assert process.returncode == 0 or "taken over" in words, words
    done, already, refused = post.handle()
    assert (done + already, refused) == (len(values), 0)
    assert Counter(each.value for each in post.on_topic()) == Counter(values)


def test_a_writer_that_was_taken_over_writes_nothing_more(post: Post) -> None:
    """What the first had delivered and not committed is as never sent, and its commit says who must be alone."""
    make = {"bootstrap": post.services.kafka_bootstrap, "name": f"t-{post.key}", "produced_by": "test"}
    first = TransactionalProducer(**make)
    value = replace(ALERT, message=post.key)
    later: list[TransactionalProducer] = []

    def overtaken() -> None:
        with first.transaction():
            first.send(value)
            later.append(TransactionalProducer(**make))

    with pytest.raises(BrokerError, match="must have one writer, was taken over"):
        overtaken()
    with later[0].transaction():
        later[0].send(replace(value, message=f"second {post.key}"))
    later[0].settle()
    found = [
        decode(record.value)
        for batch in read(post.services.kafka_bootstrap, ranges_by_time(post.services.kafka_bootstrap, [ALERTS.name]))
        for record in batch
    ]
    messages = [each.message for each in found if isinstance(each, Alert)]
    assert post.key not in messages
    assert f"second {post.key}" in messages


def test_what_is_no_dead_letter_can_be_seen_and_put_away(post: Post) -> None:
    """Rubbish on a dead-letter topic is listed with the reason, not redriven, and discarded like the rest."""
    producer = RecordProducer(bootstrap=post.services.kafka_bootstrap, produced_by="test")
    producer.send_raw(AUDIT_EVENTS.dead, post.key.encode(), b"\xff\xfe" + post.key.encode())
    producer.flush()
    wanted = Wanted(topics=(AUDIT_EVENTS.dead,), text=(b"\xff\xfe" + post.key.encode())[:10].hex())
    (letter,) = letters(post.services.kafka_bootstrap, AUDIT_EVENTS.dead, wanted)
    shown = post.hcp("show", str(letter.address))
    assert json.loads(shown.out)["reason"] == "no dead letter: not_a_record"
    assert post.hcp("redrive", str(letter.address), "--yes").code == 1
    assert post.hcp("discard", str(letter.address), "--yes").out == "1 discarded, 0 handled before, 0 refused\n"
    assert "discarded" in post.hcp("show", str(letter.address)).out


def test_a_letter_is_shown_decoded(post: Post) -> None:
    """Its record's fields as far as they go, and whether it could be redriven now."""
    post.refuse([*alerts(1), alerts(1)[0][:-20]])
    whole, cut = (json.loads(post.hcp("show", each).out) for each in post.addresses())
    assert whole["decoded"]["value"]["message"] == "alert 0"
    assert whole["redrive"] == "would be read today"
    assert "message" not in cut["decoded"]["partial"]
    assert cut["decoded"]["partial"]["facility_id"] == ALERT.facility_id
    assert cut["redrive"].startswith("Alert must decode by its schema")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("redrive", "--yes"), "letters must be chosen by name, by a filter or with --all"),
        (("discard", "--yes"), "letters must be chosen by name, by a filter or with --all"),
        (("redrive", "alerts@3", "--yes"), "a letter must be named like market.price.dead[0]@17"),
        (("show", "alerts.dead@999999999"), "a letter must lie at alerts.dead@999999999, was none"),
        (("show", "alerts.dead[9]@0"), "must have the partition, was 9"),
        (("list", "-t", "nothing"), "--topic must be one of market.price"),
        (("list", "--since", "soon"), "--since must be a duration"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(post: Post, arguments: tuple[str, ...], words: str) -> None:
    """Exit code 1, what must be and what was."""
    done = post.hcp(*arguments)
    assert done.code == 1
    assert words in done.err
    assert "\n" not in done.err
