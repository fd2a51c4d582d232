"""Which record led to which: what each names itself by, and what it names as its cause."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Protocol

from hcp.kafka.records import address_words
from hcp.model.commands import ControllerCommand, ControllerResult, OrchestratorCommand
from hcp.model.ledger import Alert, AuditEvent, BillingUsage
from hcp.model.markets import MarketPrice
from hcp.model.orders import OperatorOrder
from hcp.model.outlook import Outlook
from hcp.model.recommendations import Recommendation
from hcp.model.workloads import AllocationRequest, WorkloadEvent
from streams.tickets import placement_id

RECORDS_MAX: Final = 2_000
"""Of one chain; a price that moved a whole fleet leads to about a hundred commands and their results."""
STEPS_MAX: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of record in a chain.

    Attributes:
        record: Its class.
        own: Field with its own id; None where others name it by address.
        links: Fields with ids of what led to it.
        is_caused: Whether it names the address of a record that led to it.
        about: Field that names what it is about (a workload, a device, an order) as text; None for none.
        words: What it says, as a template of its fields and `devices`, how many it is of.
    """

    record: type
    own: str | None = None
    links: tuple[str, ...] = ()
    is_caused: bool = False
    about: str | None = None
    words: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Fields that a chain needs of it."""
        named = re.findall(r"{(\w+)}", self.words)
        cause = ("cause_topic", "cause_partition", "cause_offset") if self.is_caused else ()
        wanted = dict.fromkeys((*filter(None, (self.own, self.about)), *self.links, *cause, *named))
        wanted.pop("devices", None)
        if self.record is WorkloadEvent:
            wanted["run_number"] = None
        return tuple(wanted)

    @property
    def is_columnar(self) -> bool:
        """Whether a record is of several devices."""
        return any(field.name == "device_indexes" for field in fields(self.record))


KINDS: Final = (
    Kind(record=MarketPrice, words="{series} {instrument} {value}"),
    Kind(record=Recommendation, own="recommendation_id", is_caused=True, words="scores of {facility_id}"),
    Kind(
        record=OrchestratorCommand,
        own="command_id",
        links=("recommendation_id",),
        is_caused=True,
        words="{action} {device_class} at {facility_id} from {from_mode} to {to_mode}: {reason}",
    ),
    Kind(
        record=Outlook,
        own="outlook_id",
        links=("recommendation_id",),
        words="{device_class} at {facility_id} may go to {to_mode}",
    ),
    Kind(
        record=ControllerCommand,
        own="command_id",
        links=("decision_id",),
        words="{devices} of {shard_id} from {from_mode} to {to_mode}, attempt {attempt}",
    ),
    Kind(
        record=ControllerResult,
        links=("command_id", "decision_id"),
        words="{devices} of {shard_id} by {controller_id}",
    ),
    Kind(record=OperatorOrder, own="order_id", words="{action} {devices} of {shard_id} by {operator}: {why}"),
    Kind(record=WorkloadEvent, own="event_id", links=("workload_id",), words="{event_type} {reason}"),
    Kind(
        record=AllocationRequest,
        own="allocation_id",
        links=("workload_id",),
        words="{action} {device_count} {device_class} at {facility_id}",
    ),
    Kind(
        record=BillingUsage,
        own="usage_id",
        links=("workload_id",),
        words="{device_seconds} device-seconds, {amount_usd_micros} micro-dollars",
    ),
    Kind(record=Alert, own="alert_id", about="subject", words="{alert_type} {subject}: {message}"),
    Kind(record=AuditEvent, own="audit_id", about="subject", words="{action} {subject} by {actor}"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One record of a chain.

    Attributes:
        topic: Where it lies.
        partition: Likewise.
        offset: Likewise.
        observed_at_ms: Event time.
        recorded_at_ms: Broker timestamp.
        own: What others name it by: its id, its address.
        causes: What it names as its cause.
        words: What it says.
    """

    topic: str
    partition: int
    offset: int
    observed_at_ms: int
    recorded_at_ms: int
    own: frozenset[str]
    causes: frozenset[str]
    words: str

    @property
    def address(self) -> str:
        """Where it lies."""
        return address_words(self.topic, self.partition, self.offset)


class Source(Protocol):
    """Where records are found."""

    def named(self, names: Iterable[str]) -> list[Link]:
        """Return the records that one of these names is of: an own id or an address."""

    def led_to_by(self, names: Iterable[str]) -> list[Link]:
        """Return the records that name one of these as their cause, or as what they are about."""

    def of_device(self, device: str) -> list[Link]:
        """Return the newest records of a device that begin a chain or end one."""


def link_of(
    kind: Kind,
    values: Mapping[str, Any],
    *,
    place: tuple[str, int, int],
    times_ms: tuple[int, int],
    devices: int,
) -> Link:
    """Return a record of a chain from its fields; ids are text.

    Args:
        kind: Its kind.
        values: Its `columns`, by name.
        place: Topic, partition, offset.
        times_ms: Event time and broker timestamp.
        devices: How many it is of.
    """
    own = {address_words(*place)}
    if kind.own is not None:
        own.add(str(values[kind.own]))
    if kind.record is WorkloadEvent and values["run_number"]:
        own.add(placement_id(str(values["workload_id"]), run_number=int(values["run_number"])))
    causes = {str(values[name]) for name in kind.links}
    if kind.is_caused:
        causes.add(address_words(values["cause_topic"], values["cause_partition"], values["cause_offset"]))
    if kind.about is not None:
        causes.add(str(values[kind.about]))
    return Link(
        topic=place[0],
        partition=place[1],
        offset=place[2],
        observed_at_ms=times_ms[0],
        recorded_at_ms=times_ms[1],
        own=frozenset(own),
        causes=frozenset(causes),
        words=kind.words.format_map({**values, "devices": f"{devices:,} device{'s' if devices != 1 else ''}"}).strip(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What led to a record and what followed from it; each once, by broker timestamp.

    Attributes:
        start: Records that were asked for.
        links: All of them.
        is_cut: Whether there is more.
    """

    start: tuple[Link, ...]
    links: tuple[Link, ...]
    is_cut: bool


def chain_of(source: Source, name: str) -> Chain:
    """Return the chain of an id, an address, a workload or a device; empty when nothing has that name.

    What led to it is followed to its beginning, what followed from it to its end; what else followed from its causes is
    another chain.
    """
    start = source.named([name]) or source.led_to_by([name]) or source.of_device(name)
    known = {link.address: link for link in start}
    _follow(known, start, lambda links: source.named(_all(each.causes for each in links)))
    _follow(known, start, lambda links: source.led_to_by(_all(each.own for each in links)))
    links = sorted(known.values(), key=lambda each: (each.recorded_at_ms, each.topic, each.partition, each.offset))
    return Chain(start=tuple(start), links=tuple(links[:RECORDS_MAX]), is_cut=len(links) >= RECORDS_MAX)


def _follow(known: dict[str, Link], start: Sequence[Link], step: Any) -> None:  # noqa: ANN401  # links to links
    """Add what a step finds, step by step, until there is nothing new."""
    frontier = list(start)
    for _ in range(STEPS_MAX):
        if not frontier or len(known) >= RECORDS_MAX:
            return
        frontier = [link for link in step(frontier) if link.address not in known]
        known.update((link.address, link) for link in frontier)


def _all(names: Iterable[frozenset[str]]) -> list[str]:
    return sorted(frozenset().union(*names))


def parent_of(link: Link, links: Sequence[Link]) -> Link | None:
    """Return what led to a record: of its causes that are there, the one recorded last."""
    found = [each for each in links if each.own & link.causes and each.address != link.address]
    return max(found, key=lambda each: (each.recorded_at_ms, each.address), default=None)
