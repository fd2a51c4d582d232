"""Dead letters and what became of them: by topic, reason, time, key and text; the audit says what was done."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hcp.browse.readable import text_of
from hcp.codecs import decode
from hcp.errors import SettingsError
from hcp.kafka.ranges import Range, ranges_by_offset, ranges_by_time, read
from hcp.kafka.records import ConsumedRecord, address_words
from hcp.model.ledger import AuditEvent
from hcp.model.rejections import DeadLetter, Rejected, RejectReason
from hcp.model.units import MS_PER_DAY
from hcp.topics import AUDIT_EVENTS, DEAD_SUFFIX, TOPICS, topic_named

SKEW_MS_MAX: Final = MS_PER_DAY
"""How far the clock of who redrives may be behind that of who refused: audit events are looked for from there on."""
_ADDRESS: Final = re.compile(r"([A-Za-z0-9._-]+)(?:\[(\d{1,6})\])?@(\d{1,18})")


class Fate(StrEnum):
    """What became of a dead letter; the words are those of audit events."""

    OPEN = "open"
    REDRIVEN = "dead.redriven"
    DISCARDED = "dead.discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a letter lies: `market.price.dead[0]@17`."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """Write it as it is typed, and as audit events name it."""
        return address_words(self.topic, self.partition, self.offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What lies on a dead-letter topic.

    Attributes:
        address: Where.
        timestamp_ms: Broker timestamp.
        letter: The dead letter, or why it is none.
    """

    address: Address
    timestamp_ms: int
    letter: DeadLetter | Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which letters are meant; what is empty or None asks for nothing.

    Attributes:
        addresses: These and no others.
        topics: Dead-letter topics, by name; empty for those of the whole registry.
        reasons: Why they were refused.
        since_ms: Broker timestamp of the letter.
        until_ms: Likewise, not included.
        key: Key of the refused record, as text.
        text: Contained in the detail, whatever the case.
    """

    addresses: tuple[Address, ...] = ()
    topics: tuple[str, ...] = ()
    reasons: tuple[RejectReason, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    key: str | None = None
    text: str | None = None

    @property
    def is_unbound(self) -> bool:
        """Tell whether every letter there is would be meant."""
        return self == Wanted()

    @property
    def dead_topics(self) -> tuple[str, ...]:
        """The topics to read, in the order of the registry."""
        named = {each.topic for each in self.addresses} or set(self.topics)
        return tuple(topic.dead for topic in TOPICS if not named or topic.dead in named)

    def takes(self, letter: Letter) -> bool:
        """Tell whether it is one of those meant; what is no dead letter has neither reason nor key."""
        if self.addresses and letter.address not in self.addresses:
            return False
        found = letter.letter
        if isinstance(found, Rejected):
            return not self.reasons and self.key is None and (self.text or "").casefold() in found.detail.casefold()
        if self.reasons and found.reason not in self.reasons:
            return False
        if self.key is not None and text_of(found.record_key) != self.key:
            return False
        return (self.text or "").casefold() in found.detail.casefold()


def address_of(text: str) -> Address:
    """Read `market.price.dead[0]@17`, or `market.price.dead@17` where there is but one partition.

    Raises:
        SettingsError: It is none, or not of a dead-letter topic.
    """
    matched = _ADDRESS.fullmatch(text)
    if matched is None or not matched[1].endswith(DEAD_SUFFIX) or topic_named(matched[1]) is None:
        raise SettingsError(f"a letter must be named like market.price.dead[0]@17, was {text!r}")
    return Address(topic=matched[1], partition=int(matched[2] or 0), offset=int(matched[3]))


def dead_topic(name: str) -> str:
    """Return the dead-letter topic that is meant by its own name or by that of the topic it serves.

    Raises:
        SettingsError: There is no such topic.
    """
    found = topic_named(name)
    if found is None:
        raise SettingsError(f"--topic must be one of {', '.join(topic.name for topic in TOPICS)}, was {name!r}")
    return found.name if found.record is DeadLetter else found.dead


def letters(bootstrap: str, topic: str, wanted: Wanted) -> Iterator[Letter]:
    """Yield the letters meant on one dead-letter topic, oldest first, handled ones too.

    Raises:
        BrokerError: The broker does not answer or has no such topic.
    """
    for batch in read(bootstrap, _ranges(bootstrap, topic, wanted)):
        for record in batch:
            letter = _letter(record)
            if wanted.takes(letter):
                yield letter


def fates(bootstrap: str, *, since_ms: int) -> dict[str, AuditEvent]:
    """Return what became of letters, by address, from what was written at or after `since_ms` on.

    Args:
        bootstrap: The broker.
        since_ms: Broker timestamp of the oldest letter asked about: none is handled before it lies there.

    Raises:
        BrokerError: The broker does not answer or has no topic audit.events.
    """
    found: dict[str, AuditEvent] = {}
    ranges = ranges_by_time(bootstrap, [AUDIT_EVENTS.name], from_ms=max(since_ms - SKEW_MS_MAX, 0))
    for batch in read(bootstrap, ranges):
        for record in batch:
            if DEAD_SUFFIX.encode() not in (record.key or b""):
                continue  # the key is the subject: most are of other things, and need not be decoded
            event = decode(record.value)
            if isinstance(event, AuditEvent) and event.action in {Fate.REDRIVEN, Fate.DISCARDED}:
                found.setdefault(event.subject, event)
    return found


def fate_of(letter: Letter, known: dict[str, AuditEvent]) -> Fate:
    """Return what became of a letter."""
    event = known.get(str(letter.address))
    return Fate.OPEN if event is None else Fate(event.action)


def _ranges(bootstrap: str, topic: str, wanted: Wanted) -> Iterable[Range]:
    offsets = [each for each in wanted.addresses if each.topic == topic]
    if not offsets:
        return ranges_by_time(bootstrap, [topic], from_ms=wanted.since_ms, to_ms=wanted.until_ms)
    places = {(topic, each.partition) for each in offsets}
    return ranges_by_offset(bootstrap, {place: _span(place, offsets) for place in sorted(places)})


def _span(place: tuple[str, int], offsets: Iterable[Address]) -> tuple[int, int]:
    held = [each.offset for each in offsets if (each.topic, each.partition) == place]
    return min(held), max(held) + 1


def _letter(record: ConsumedRecord) -> Letter:
    value = decode(record.value)
    if not isinstance(value, DeadLetter | Rejected):
        detail = f"a dead letter must be a DeadLetter, was a {type(value).__name__}"
        value = Rejected(reason=RejectReason.WRONG_TYPE, detail=detail)
    address = Address(topic=record.topic, partition=record.partition, offset=record.offset)
    return Letter(address=address, timestamp_ms=record.timestamp_ms, letter=value)
