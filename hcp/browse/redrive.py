"""Put refused records back on their topics, or away, exactly once.

A record put back and the audit event that says so are written in one transaction, by one writer at a time for each
dead-letter topic, who first reads what is done. Killed at any moment, both count or neither does. Whoever reads a topic
at read_uncommitted may see a record of a transaction that was given up, and see it again when it is redriven.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from hcp.browse.auditing import Operator, audit_of
from hcp.browse.letters import Fate, Letter, Wanted, fate_of, fates, letters
from hcp.clock import Clock, wall_ms
from hcp.codecs import decode
from hcp.kafka.producer import headers_of
from hcp.kafka.records import address_words
from hcp.kafka.transactions import TransactionalProducer
from hcp.model.ledger import AuditEvent
from hcp.model.rejections import DeadLetter, Rejected
from hcp.model.units import EpochMs
from hcp.model.validation import check_event_time
from hcp.topics import topic_named

PRODUCED_BY: Final = "hcp-dead"
REDRIVEN_FROM: Final = "redriven_from"
"""Header of a redriven record: the address of its letter."""
BATCH_LETTERS_MAX: Final = 500
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
Step = Callable[[Letter], None]


@dataclass(slots=True, kw_only=True)
class Handled:
    """What was done; grows letter by letter.

    Attributes:
        done: Letters redriven or discarded now.
        already: Letters left alone, for they were handled before.
        refused: Letters that may not be redriven, and why.
    """

    done: int = 0
    already: int = 0
    refused: list[tuple[Letter, str]] = field(default_factory=list)


def handle(
    bootstrap: str,
    wanted: Wanted,
    *,
    fate: Fate,
    operator: Operator,
    clock: Clock = wall_ms,
    on_letter: Step = lambda _: None,
) -> Handled:
    """Redrive or discard every open letter that is meant.

    Args:
        bootstrap: The broker.
        wanted: Which letters.
        fate: What is to become of them, not OPEN.
        operator: Who does it, for the audit.
        clock: What now is.
        on_letter: Called for each letter looked at.

    Raises:
        BrokerError: The broker refused or did not answer, or somebody else began the same; what was committed until
            then is done, and doing it all again handles the rest.
    """
    handled = Handled()
    for topic in wanted.dead_topics:
        first = next(letters(bootstrap, topic, wanted), None)
        if first is None:
            continue
        producer = TransactionalProducer(bootstrap=bootstrap, name=f"hcp-{topic}", produced_by=PRODUCED_BY)
        known = fates(bootstrap, since_ms=first.timestamp_ms)  # after the name is ours: nobody adds to it any more
        done_before = handled.done
        for batch in _batches(_open(letters(bootstrap, topic, wanted), known, handled, on_letter)):
            _handle_batch(producer, batch, handled, fate=fate, operator=operator, at_ms=clock())
        if handled.done > done_before:
            producer.settle()  # who looks next sees it
    return handled


def refusal(letter: Letter, *, at_ms: EpochMs) -> str | None:
    """Return why a letter may not be redriven, or None when its record would be read today.

    What needs the fleet to be judged (an unknown device) is judged by whoever consumes it.
    """
    found = letter.letter
    if isinstance(found, Rejected):
        return found.detail
    topic = topic_named(found.source_topic)
    if topic is None:
        return f"topic must be of the registry, was {found.source_topic}"
    if found.source_partition >= topic.partitions:
        return f"partition of {topic.name} must be below {topic.partitions}, was {found.source_partition}"
    value = decode(found.record_value)
    if isinstance(value, Rejected):
        return value.detail
    if not isinstance(value, topic.record):
        return f"a record of {topic.name} must be of class {topic.record.__name__}, was {type(value).__name__}"
    early = check_event_time(observed_at_ms=getattr(value, "observed_at_ms", 0), record_timestamp_ms=at_ms)
    return None if early is None else early.detail


def _open(found: Iterable[Letter], known: dict[str, AuditEvent], handled: Handled, on_letter: Step) -> Iterator[Letter]:
    for letter in found:
        on_letter(letter)
        if fate_of(letter, known) is Fate.OPEN:
            yield letter
        else:
            handled.already += 1


def _batches(found: Iterable[Letter]) -> Iterator[list[Letter]]:
    batch: list[Letter] = []
    size = 0
    for letter in found:
        batch.append(letter)
        size += len(letter.letter.record_value or b"") if isinstance(letter.letter, DeadLetter) else 0
        if len(batch) == BATCH_LETTERS_MAX or size >= BATCH_BYTES_MAX:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _handle_batch(
    producer: TransactionalProducer,
    batch: list[Letter],
    handled: Handled,
    *,
    fate: Fate,
    operator: Operator,
    at_ms: EpochMs,
) -> None:
    done: list[Letter] = []
    for letter in batch:
        why_not = refusal(letter, at_ms=at_ms) if fate is Fate.REDRIVEN else None
        if why_not is None:
            done.append(letter)
        else:
            handled.refused.append((letter, why_not))
    if not done:
        return
    with producer.transaction():
        for letter in done:
            if fate is Fate.REDRIVEN:
                _send_back(producer, letter)
            producer.send(_audit(letter, fate=fate, operator=operator, at_ms=at_ms))
    handled.done += len(done)


def _send_back(producer: TransactionalProducer, letter: Letter) -> None:
    """Queue the refused record as it was: its key, its value and its partition; its headers were not kept."""
    found = letter.letter
    assert isinstance(found, DeadLetter), "anything else was refused"
    headers = headers_of(found.source_topic, found.record_value or b"", produced_by=PRODUCED_BY)
    producer.send_bytes(
        found.source_topic,
        key=found.record_key,
        value=found.record_value,
        partition=found.source_partition,
        headers=[*headers, (REDRIVEN_FROM, str(letter.address))],
    )


def _audit(letter: Letter, *, fate: Fate, operator: Operator, at_ms: EpochMs) -> AuditEvent:
    found = letter.letter
    before: dict[str, str] = {"detail": found.detail, "reason": found.reason.value}
    if isinstance(found, DeadLetter):
        before["record"] = address_words(found.source_topic, found.source_partition, found.source_offset)
    return audit_of(
        operator,
        action=fate.value,
        subject=str(letter.address),
        at_ms=at_ms,
        before=before,
        identity=("dead", str(letter.address)),
    )
