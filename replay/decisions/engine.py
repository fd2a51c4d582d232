"""A history through the pure streams: a fold over a site's records, so that any state of it can be gone on from."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from hcp.kafka.records import ConsumedRecord
from hcp.model.commands import DecisionAction, OrchestratorCommand
from hcp.model.markets import MarketPrice
from hcp.model.recommendations import Recommendation
from hcp.model.rejections import Rejected
from hcp.model.steps import Cause
from hcp.topics import MARKET_PRICE, OPTIMIZER_RECOMMENDATION
from replay.decisions.followed import as_counted, seen, switched
from replay.decisions.memory import SiteMemory
from replay.decisions.plan import Devices, Rules, Scores
from replay.decisions.records import History, cause_of, guarded, value_of
from streams.optimizer import on_price
from streams.orchestrator import on_recommendation

Place = tuple[int, int]
"""Partition and offset of a price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What one recommendation led to.

    Attributes:
        recommendation: As decided on: with the devices as the replay takes them to be.
        decisions: Sorted by class; empty where no class's reason changed.
    """

    recommendation: Recommendation
    decisions: tuple[OrchestratorCommand, ...]


class Replay:
    """Decides again, site by site; holds what each site's next decision depends on."""

    def __init__(self, rules: Rules, *, sites: frozenset[str], memories: Iterable[SiteMemory] = ()) -> None:
        """Go on from `memories`; a site without one begins at its first record."""
        self.rules = rules
        self.passed_over: Counter[str] = Counter()
        """Records that led to nothing, by why: dead letters of live, and those of sites that are not replayed."""
        self._memories = {site: SiteMemory(facility_id=site) for site in sites}
        self._memories.update({each.facility_id: each for each in memories if each.facility_id in sites})
        self._over: set[str] = set()

    def memories(self) -> tuple[SiteMemory, ...]:
        """Return what is known of every site, sorted by site."""
        return tuple(self._memories[site] for site in sorted(self._memories))

    def run(self, history: History, *, until_ms: int) -> Iterator[Decided]:
        """Yield what every recommendation before `until_ms` leads to.

        A site ends at its first recommendation of that event time or later, whatever comes after.
        """
        if self.rules.plan.scores is Scores.RECORDED:
            for record, recommendation in self._taken(history.recommendations(), until_ms=until_ms):
                yield from self._decided(record, recommendation)
            return
        taken = list(self._taken(history.recommendations(), until_ms=until_ms))
        scored = self._scored_again(history.prices(), [recommendation for _, recommendation in taken])
        for record, recommendation in taken:
            again = scored.get(_place(recommendation))
            if again is None:
                self.passed_over["no recommendation any more"] += 1
                continue
            devices, offset = recommendation.devices, recommendation.resource_state_offset
            yield from self._decided(record, replace(again, devices=devices, resource_state_offset=offset))

    def _taken(
        self, records: Iterable[ConsumedRecord], *, until_ms: int
    ) -> Iterator[tuple[ConsumedRecord, Recommendation]]:
        """Yield the recommendations of the sites wanted that are not in their memory and before the end."""
        self._over.clear()
        for record in records:
            value = value_of(record, Recommendation)
            if isinstance(value, Rejected):
                self.passed_over[value.reason.value] += 1
                continue
            memory = self._memories.get(value.facility_id)
            if memory is None:
                self.passed_over["another site's"] += 1
            elif value.observed_at_ms >= until_ms or value.facility_id in self._over:
                self._over.add(value.facility_id)
                if len(self._over) == len(self._memories):
                    return
            elif record.offset > memory.taken_offset:
                yield record, value

    def _scored_again(
        self, records: Iterable[ConsumedRecord], wanted: list[Recommendation]
    ) -> dict[Place, Recommendation]:
        """Return the recommendation of every price that one is wanted of; prices after a site's last are not taken."""
        places = {_place(recommendation) for recommendation in wanted}
        last: dict[str, int] = {}
        for each in wanted:
            last[each.facility_id] = max(last.get(each.facility_id, -1), each.cause_offset)
        found: dict[Place, Recommendation] = {}
        for record in records:
            price = value_of(record, MarketPrice)
            if isinstance(price, Rejected):
                self.passed_over[price.reason.value] += 1
                continue
            memory = self._memories.get(price.facility_id)
            if memory is None or not memory.market_offset < record.offset <= last.get(price.facility_id, -1):
                continue
            scored = self._scored(memory, price, cause=replace(cause_of(record), topic=MARKET_PRICE.name))
            if scored is not None and (record.partition, record.offset) in places:
                found[record.partition, record.offset] = scored
        return found

    def _scored(self, memory: SiteMemory, price: MarketPrice, *, cause: Cause) -> Recommendation | None:
        site = memory.facility_id
        step = guarded(lambda: on_price(memory.market, price, fleet=self.rules.fleet, cause=cause))
        if isinstance(step, Rejected):
            self.passed_over[step.reason.value] += 1
            self._memories[site] = replace(memory, market_offset=cause.offset)
            return None
        market = dict(step.updates).get(site, memory.market)
        self._memories[site] = replace(memory, market=market, market_offset=cause.offset)
        return next((each for each in step.outputs if isinstance(each, Recommendation)), None)

    def _decided(self, record: ConsumedRecord, recommendation: Recommendation) -> Iterator[Decided]:
        memory = self._memories[recommendation.facility_id]
        if self.rules.plan.devices is Devices.FOLLOWED:
            memory, recommendation = _following(memory, recommendation)
        # Ids are derived from the registry's names; a copy of a topic under another name must give the same.
        cause = replace(cause_of(record), topic=OPTIMIZER_RECOMMENDATION.name)
        step = guarded(
            lambda: on_recommendation(
                memory.site,
                recommendation,
                fleet=self.rules.fleet,
                policy=self.rules.policy,
                cause=cause,
                limits=self.rules.limits,
            )
        )
        memory = replace(memory, taken_offset=record.offset)
        if isinstance(step, Rejected):
            self.passed_over[step.reason.value] += 1
            self._memories[memory.facility_id] = memory
            return
        decisions = tuple(each for each in step.outputs if isinstance(each, OrchestratorCommand))
        if self.rules.plan.devices is Devices.FOLLOWED:
            memory = _moved(memory, decisions)
        site = dict(step.updates).get(memory.facility_id, memory.site)
        self._memories[memory.facility_id] = replace(memory, site=site)
        if step.ignored is not None:
            self.passed_over[step.ignored] += 1
            return
        yield Decided(recommendation=recommendation, decisions=decisions)


def _place(recommendation: Recommendation) -> Place:
    return recommendation.cause_partition, recommendation.cause_offset


def _following(memory: SiteMemory, recommendation: Recommendation) -> tuple[SiteMemory, Recommendation]:
    """Put the devices where the replay sent them, in what is known and in what is to be decided on."""
    known = {each.device_class: each for each in memory.followed}
    for recorded in recommendation.devices:
        known[recorded.device_class] = seen(known.get(recorded.device_class), recorded)
    devices = tuple([as_counted(known[recorded.device_class], recorded) for recorded in recommendation.devices])
    followed = tuple(known[name] for name in sorted(known))
    return replace(memory, followed=followed), replace(recommendation, devices=devices)


def _moved(memory: SiteMemory, decisions: Iterable[OrchestratorCommand]) -> SiteMemory:
    known = {each.device_class: each for each in memory.followed}
    for command in decisions:
        if command.action is DecisionAction.SWITCH and command.device_class in known:
            known[command.device_class] = switched(known[command.device_class], command)
    return replace(memory, followed=tuple(known[name] for name in sorted(known)))
