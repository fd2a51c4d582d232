"""A live platform in one thread: sites decide on prices, devices obey, and every record lies in its partition's log."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count
from random import Random
from typing import Final

from hcp.codecs import encode
from hcp.kafka.records import ConsumedRecord
from hcp.model.commands import DecisionAction, OrchestratorCommand
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Cluster, Facility, Fleet
from hcp.model.markets import MarketPrice
from hcp.model.recommendations import Recommendation
from hcp.model.resources import ResourceState, StateReporter
from hcp.model.steps import Cause
from hcp.topics import MARKET_PRICE, OPTIMIZER_RECOMMENDATION, ORCHESTRATOR_COMMAND, Topic, partition_for
from replay.decisions.engine import Replay
from replay.decisions.plan import Plan, rules_of, sites_of
from replay.decisions.records import History, cause_of
from streams.inventory import SiteInventory, on_resource_state
from streams.market import MarketState
from streams.optimizer import on_price
from streams.orchestrator import on_recommendation
from streams.policies import Policy
from streams.site import SiteState
from tests.unit.streams.world import DEFAULTS, DEMO_FLEET, MINUTE_MS, START_MS, a_price, a_report, step

TICK_MS: Final = 5 * MINUTE_MS
EVER_MS: Final = 2**53


def fleet_of(sites: int, *, prefix: str = "site", like: str = "tx-south") -> Fleet:
    """Return a fleet of sites that are all like one of the demo's, named `prefix-0` and so on."""
    model = DEMO_FLEET.facility(like)
    assert model is not None
    return replace(DEMO_FLEET, facilities=tuple(_named(model, f"{prefix}-{number}") for number in range(sites)))


def _named(model: Facility, name: str) -> Facility:
    return replace(model, facility_id=name, clusters=tuple(_moved(each, name) for each in model.clusters))


def _moved(cluster: Cluster, name: str) -> Cluster:
    return replace(cluster, facility_id=name, cluster_id=f"{name}.{cluster.cluster_id.partition('.')[2]}")


def wild_prices(fleet: Fleet, *, seed: int, ticks: int) -> Iterator[MarketPrice]:
    """Yield every default price of each site, then energy prices that cross the break-even of its devices."""
    random = Random(seed)
    for (series, instrument), value in DEFAULTS.items():
        for site in fleet.facilities:
            yield a_price(series, instrument, value, facility_id=site.facility_id)
    (energy, hub), *_ = DEFAULTS
    for tick in range(1, ticks + 1):
        for site in fleet.facilities:
            value = random.choice((20.0, 60.0, 95.0, 110.0, 180.0, 400.0)) + random.random()
            at_ms = START_MS + tick * TICK_MS
            yield a_price(energy, hub, value, at_ms=at_ms, interval_ms=TICK_MS, facility_id=site.facility_id)


class LivePlatform:
    """Takes prices in and keeps what would be on the broker: `logs` by topic and partition."""

    def __init__(self, fleet: Fleet, policy: Policy, *, partitions: int = 1) -> None:
        """Begin with every device in its initial mode."""
        self.fleet, self.policy, self.partitions = fleet, policy, partitions
        self.logs: dict[tuple[str, int], list[ConsumedRecord]] = defaultdict(list)
        self.sites: dict[str, SiteState] = {}
        self.markets: dict[str, MarketState] = {}
        self._inventories: dict[str, SiteInventory] = {}
        self._modes = {
            shard.shard_id: [cluster.initial_mode] * shard.device_count
            for site in fleet.facilities
            for cluster in site.clusters
            for shard in cluster.shards()
        }
        self._epochs = {shard: [0] * len(modes) for shard, modes in self._modes.items()}
        self._reports = count()

    def run(self, prices: Iterable[MarketPrice]) -> "LivePlatform":
        """Take prices in, each with fresh telemetry, until all that follows from it is done."""
        for price in prices:
            self._tell(price.facility_id, at_ms=price.observed_at_ms, reported_by=StateReporter.FLEET_MONITOR)
            self.take(self.log(MARKET_PRICE, price, timestamp_ms=price.observed_at_ms), price)
        return self

    def take(self, record: ConsumedRecord, price: MarketPrice) -> None:
        """Do what optimizer, orchestrator and devices do for one price."""
        site = price.facility_id
        priced = step(
            on_price(
                self.markets.get(site),
                price,
                inventory=self._inventories.get(site),
                fleet=self.fleet,
                cause=cause_of(record),
            )
        )
        self.markets.update(priced.updates)
        for recommendation in priced.outputs:
            if isinstance(recommendation, Recommendation):
                self.decide(recommendation, timestamp_ms=record.timestamp_ms)

    def decide(self, recommendation: Recommendation, *, timestamp_ms: int) -> None:
        """Publish a recommendation and do what follows; given one again, do what live does with a repeat."""
        record = self.log(OPTIMIZER_RECOMMENDATION, recommendation, timestamp_ms=timestamp_ms)
        decided = step(
            on_recommendation(
                self.sites.get(recommendation.facility_id),
                recommendation,
                fleet=self.fleet,
                policy=self.policy,
                cause=cause_of(record),
            )
        )
        self.sites.update(decided.updates)
        for command in decided.outputs:
            if isinstance(command, OrchestratorCommand):
                self.log(ORCHESTRATOR_COMMAND, command, timestamp_ms=timestamp_ms)
                self._obey(command)

    def log(
        self, topic: Topic, value: MarketPrice | Recommendation | OrchestratorCommand, *, timestamp_ms: int
    ) -> ConsumedRecord:
        """Append a record where its site belongs."""
        partition = partition_for(value.facility_id, self.partitions)
        log = self.logs[topic.name, partition]
        record = ConsumedRecord(
            topic=topic.name,
            partition=partition,
            offset=len(log),
            timestamp_ms=timestamp_ms,
            key=value.facility_id.encode(),
            value=encode(value),
        )
        log.append(record)
        return record

    def commands(self) -> dict[str, list[bytes]]:
        """Return each site's decisions as they were sent, in order."""
        found: dict[str, list[bytes]] = defaultdict(list)
        for (topic, _), log in self.logs.items():
            for record in log if topic == ORCHESTRATOR_COMMAND.name else ():
                assert record.key is not None
                assert record.value is not None
                found[record.key.decode()].append(record.value)
        return dict(found)

    def history(self, *, seed: int = 0) -> History:
        """Return the records as a reader of all partitions might get them: each in its order, mixed at random."""
        return History(
            recommendations=lambda: self.records(OPTIMIZER_RECOMMENDATION, seed=seed),
            prices=lambda: self.records(MARKET_PRICE, seed=seed),
        )

    def records(self, topic: Topic, *, seed: int = 0) -> Iterator[ConsumedRecord]:
        """Yield a topic's records, partitions mixed at random."""
        random = Random(seed)
        waiting = [iter(log) for (name, _), log in sorted(self.logs.items()) if name == topic.name]
        while waiting:
            log = random.choice(waiting)
            record = next(log, None)
            if record is None:
                waiting.remove(log)
            else:
                yield record

    def _obey(self, command: OrchestratorCommand) -> None:
        if command.action is not DecisionAction.SWITCH:
            return
        left = command.device_count
        for shard, cluster in self._shards(command.facility_id):
            if cluster.device_class != command.device_class:
                continue
            modes, epochs = self._modes[shard], self._epochs[shard]
            for index, mode in enumerate(modes):
                if mode is command.from_mode and left:
                    modes[index], epochs[index], left = command.to_mode, epochs[index] + 1, left - 1
        self._tell(command.facility_id, at_ms=command.observed_at_ms, reported_by=StateReporter.RESOURCES)

    def _tell(self, site: str, *, at_ms: int, reported_by: StateReporter) -> None:
        for shard, _ in self._shards(site):
            modes: tuple[DeviceMode, ...] = tuple(self._modes[shard])
            report: ResourceState = a_report(shard, fleet=self.fleet, modes=modes, at_ms=at_ms, reported_by=reported_by)
            cause = Cause(topic="resource.state", partition=0, offset=next(self._reports), timestamp_ms=at_ms)
            told = replace(report, epochs=tuple(self._epochs[shard]))
            counted = step(on_resource_state(self._inventories.get(site), told, fleet=self.fleet, cause=cause))
            self._inventories.update(counted.updates)

    def _shards(self, site: str) -> Iterator[tuple[str, Cluster]]:
        facility = self.fleet.facility(site)
        assert facility is not None
        for cluster in facility.clusters:
            for shard in cluster.shards():
                yield shard.shard_id, cluster


def decided_again(records: Iterable[ConsumedRecord], *, fleet: Fleet, policy: str) -> list[OrchestratorCommand]:
    """Return what records of `optimizer.recommendation` lead to, each partition's in its order."""
    inputs = sorted(records, key=lambda record: (record.partition, record.offset))
    replay = Replay(rules_of(Plan(policy=policy), fleet=fleet), sites=sites_of(fleet, ()))
    history = History(recommendations=lambda: inputs, prices=lambda: ())
    return [each for decided in replay.run(history, until_ms=EVER_MS) for each in decided.decisions]
