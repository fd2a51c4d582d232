"""The records of a replay from their topics: read outside any group, from a snapshot on or from the start."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from hcp.kafka.ranges import Range, ranges_by_time, read
from hcp.kafka.records import ConsumedRecord
from hcp.model.commands import OrchestratorCommand
from hcp.model.recommendations import Recommendation
from hcp.model.rejections import Rejected
from hcp.model.validation import FUTURE_TOLERANCE_MS
from hcp.topics import MARKET_PRICE, OPTIMIZER_RECOMMENDATION, ORCHESTRATOR_COMMAND, Topic, partition_for
from replay.decisions.memory import SiteMemory
from replay.decisions.plan import Scores
from replay.decisions.records import History, value_of

_PEEK: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Records that a partition no longer has; `first_ms` is the event time of the first it has, None without one."""

    topic: str
    partition: int
    first_offset: int
    first_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Topics as they were when they were looked at.

    Attributes:
        bootstrap: The broker.
        recommendations: Where to read.
        prices: Likewise; empty where recommendations are taken as recorded.
        gaps: What retention has eaten of it.
    """

    bootstrap: str
    recommendations: tuple[Range, ...]
    prices: tuple[Range, ...]
    gaps: tuple[Gap, ...]

    def history(self) -> History:
        """Return the records."""
        return History(
            recommendations=lambda: _records(self.bootstrap, self.recommendations),
            prices=lambda: _records(self.bootstrap, self.prices),
        )


def recorded(
    bootstrap: str, *, scores: Scores, sites: Iterable[str], memories: Sequence[SiteMemory] = (), prefix: str = ""
) -> Recorded:
    """Look at the topics that a replay reads.

    Args:
        bootstrap: The broker.
        scores: Where recommendations come from: prices are read only where they are scored again.
        sites: Which sites are replayed.
        memories: What a snapshot knew: reading begins after it.
        prefix: Before the names of the topics, for copies of them.

    Raises:
        BrokerError: The broker does not answer, or a topic is missing.
    """
    wanted = tuple(sites)
    known = {each.facility_id: each for each in memories}
    taken = {site: known[site].taken_offset if site in known else -1 for site in wanted}
    recommendations = _ranges(bootstrap, OPTIMIZER_RECOMMENDATION, prefix=prefix, taken=taken)
    prices: tuple[Range, ...] = ()
    if scores is Scores.AGAIN:
        taken = {site: known[site].market_offset if site in known else -1 for site in wanted}
        prices = _ranges(bootstrap, MARKET_PRICE, prefix=prefix, taken=taken)
    return Recorded(
        bootstrap=bootstrap,
        recommendations=recommendations,
        prices=prices,
        gaps=tuple(_gap(bootstrap, each) for each in (*recommendations, *prices) if each.is_cut),
    )


def live_decisions(bootstrap: str, *, from_ms: int, prefix: str = "") -> Iterator[OrchestratorCommand]:
    """Yield the decisions that were published, of that event time or later, each partition's in its order.

    Raises:
        BrokerError: The broker does not answer, or the topic is missing.
    """
    for value in _values(bootstrap, ORCHESTRATOR_COMMAND, OrchestratorCommand, from_ms=from_ms, prefix=prefix):
        if isinstance(value, OrchestratorCommand) and value.observed_at_ms >= from_ms:
            yield value


def live_recommendations(bootstrap: str, *, from_ms: int, prefix: str = "") -> Iterator[Recommendation]:
    """Yield the recommendations that were published, of that event time or later, each partition's in its order.

    Raises:
        BrokerError: The broker does not answer, or the topic is missing.
    """
    for value in _values(bootstrap, OPTIMIZER_RECOMMENDATION, Recommendation, from_ms=from_ms, prefix=prefix):
        if isinstance(value, Recommendation) and value.observed_at_ms >= from_ms:
            yield value


def _values(bootstrap: str, topic: Topic, kind: type, *, from_ms: int, prefix: str) -> Iterator[object]:
    """Yield values of a topic; no record is older than its event time by more than is tolerated of the future."""
    since_ms = max(from_ms - FUTURE_TOLERANCE_MS, 0)
    ranges = ranges_by_time(bootstrap, [prefix + topic.name], from_ms=since_ms)
    for record in _records(bootstrap, ranges):
        value = value_of(record, kind)
        if not isinstance(value, Rejected):
            yield value


def _ranges(bootstrap: str, topic: Topic, *, prefix: str, taken: dict[str, int]) -> tuple[Range, ...]:
    """Return the partitions in which the sites are, each from after what all its sites have taken."""
    found = ranges_by_time(bootstrap, [prefix + topic.name])
    starts: dict[int, int] = {}
    for site, offset in taken.items():
        partition = partition_for(site, len(found))
        starts[partition] = min(starts.get(partition, offset + 1), offset + 1)
    return tuple(_from(each, starts[each.partition]) for each in found if each.partition in starts)


def _from(found: Range, start: int) -> Range:
    """Cut a whole partition to what comes from `start` on; whether that is there is known by its first offset."""
    return replace(found, start=max(found.start, start), end=max(found.end, start), is_cut=found.start > start)


def _gap(bootstrap: str, cut: Range) -> Gap:
    """Say when what is left of a partition begins."""
    first = next(chain.from_iterable(read(bootstrap, [cut], records_max=_PEEK)), None)
    first_ms = None
    if first is not None:
        kind = MARKET_PRICE.record if first.topic.endswith(MARKET_PRICE.name) else OPTIMIZER_RECOMMENDATION.record
        value = value_of(first, kind)
        first_ms = first.timestamp_ms if isinstance(value, Rejected) else value.observed_at_ms
    return Gap(topic=cut.topic, partition=cut.partition, first_offset=cut.start, first_ms=first_ms)


def _records(bootstrap: str, ranges: Iterable[Range]) -> Iterator[ConsumedRecord]:
    return chain.from_iterable(read(bootstrap, ranges))
