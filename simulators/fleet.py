"""The fleet simulator: telemetry of every device each tick, in the modes that controllers report."""

from typing import Final

import structlog

from hcp.clock import Clock, wall_ms
from hcp.codecs import decode
from hcp.errors import BrokerError, FleetError
from hcp.kafka.consumer import BatchConsumer
from hcp.kafka.producer import RecordProducer
from hcp.model.commands import ControllerResult
from hcp.model.facilities import Fleet
from hcp.model.units import EpochMs
from hcp.settings import Settings
from hcp.topics import CONTROLLER_RESULT, topic_of
from simulators.faults import Fault, corrupted, parse_fault
from simulators.nvml_feed import NvmlFeed
from simulators.physics import ShardPhysics
from simulators.run_clock import RunClock, StopSignal
from simulators.telemetry import apply_result, fleet_physics, tick

PRODUCED_BY: Final = "simulator.fleet"
RESULTS_MAX: Final = 1_000
CATCH_UP_MS_MAX: Final = 15_000
"""How long results of before are waited for; then the initial modes stand until they come."""
CATCH_UP_POLL_MS: Final = 300
FLUSH_MS: Final = 10_000
PROGRESS_TICKS: Final = 60

_log = structlog.get_logger(__name__)


class FleetRun:
    """The shards of a run and their connection to Kafka."""

    def __init__(
        self,
        *,
        settings: Settings,
        fleet: Fleet,
        seed: int,
        faults: tuple[Fault, ...],
        clock: Clock,
        feeds: tuple[NvmlFeed, ...] = (),
        without: frozenset[str] = frozenset(),
    ) -> None:
        """Read results from their beginning: a group of this run's own, nothing is ever committed."""
        self._seed, self._faults, self._clock = seed, faults, clock
        self._feeds = {feed.shard_id: feed for feed in feeds}
        shards = fleet_physics(fleet, seed=seed, faults=faults)
        self.shards: dict[str, ShardPhysics] = {
            shard_id: physics for shard_id, physics in shards.items() if physics.shard.cluster_id not in without
        }
        self._producer = RecordProducer(bootstrap=settings.kafka_bootstrap, produced_by=PRODUCED_BY)
        self._consumer = BatchConsumer(
            bootstrap=settings.kafka_bootstrap,
            group=f"{PRODUCED_BY}.{settings.instance}.{wall_ms()}",
            topics=(CONTROLLER_RESULT.name,),
            client_id=PRODUCED_BY,
        )
        self._last_ms = clock()
        self._is_undelivered = False

    def follow(self, *, timeout_ms: int) -> int:
        """Take in results of controllers; return how many records came. A bad one is the consumers' to dead-letter."""
        records = self._consumer.poll(records_max=RESULTS_MAX, timeout_ms=timeout_ms)
        for record in records:
            result = decode(record.value)
            if isinstance(result, ControllerResult):
                apply_result(self.shards, result)
        return len(records)

    def catch_up(self, stop: StopSignal) -> None:
        """Read the results of before this start, so that a restart knows the modes."""
        until_ms = wall_ms() + CATCH_UP_MS_MAX
        total = 0
        while not stop.is_set and wall_ms() < until_ms:
            was_assigned = bool(self._consumer.assignment())
            came = self.follow(timeout_ms=CATCH_UP_POLL_MS)
            total += came
            if was_assigned and not came:  # partitions that came during the poll may not have been fetched from yet
                break
        _log.info("fleet_caught_up", results=total)

    def emit(self) -> int:
        """Send one tick of every shard; return how many batches. A broker that is away costs readings, not the run."""
        now_ms = EpochMs(max(self._clock(), self._last_ms))
        passed_ms, self._last_ms = now_ms - self._last_ms, now_ms
        sent = 0
        batches = tick(self.shards, passed_ms=passed_ms, at_ms=now_ms, seed=self._seed, faults=self._faults)
        try:
            for batch in batches:
                if batch.shard_id in self._feeds:
                    self._feeds[batch.shard_id].show(batch)  # its controller measures there, and sends
                    continue
                here = [fault for fault in self._faults if fault.shard_id == batch.shard_id]
                data = corrupted(batch, here) if here else None
                if data is None:
                    self._producer.send(batch)
                else:
                    topic = topic_of(batch)
                    self._producer.send_raw(topic.name, topic.key_of(batch), data, topic.partition_of(batch))
                sent += 1
            self._producer.flush(timeout_ms=FLUSH_MS)
        except BrokerError as error:
            if not self._is_undelivered:
                _log.warning("telemetry_undelivered", error=str(error))
            self._is_undelivered = True
        else:
            if self._is_undelivered:
                _log.info("telemetry_delivered_again")
            self._is_undelivered = False
        return sent

    def close(self) -> None:
        """Leave."""
        self._consumer.close()
        for feed in self._feeds.values():
            feed.close()


def run_fleet(
    *,
    settings: Settings,
    fleet: Fleet,
    tick_ms: int = 1_000,
    seed: int = 7,
    speed_ratio: float,
    origin_ms: EpochMs,
    started_ms: EpochMs,
    faults: tuple[str, ...] = (),
    nvml: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
) -> int:
    """Emit telemetry until SIGTERM or SIGINT; return the exit code 0.

    Args:
        settings: Where Kafka is.
        fleet: The devices.
        tick_ms: Wall time between two readings of each device.
        seed: Of noise and faults.
        speed_ratio: Event seconds a wall second, above 0 and finite.
        origin_ms: Event time at `started_ms`.
        started_ms: Wall time of the origin.
        faults: As `parse_fault` takes them.
        nvml: Hosts as `NvmlFeed.parse` takes them: their shards' readings are shown there instead of sent.
        without: Clusters of real devices, which are not simulated.

    Raises:
        FleetError: A fault or a cluster names nothing of the fleet.
        HcpError: An NVML host is none.
        BrokerError: The topic of results does not exist.
        ValueError: `speed_ratio` is out of range.
    """
    parsed = tuple(parse_fault(text, fleet=fleet) for text in faults)
    clock = RunClock(origin_ms=origin_ms, started_ms=started_ms, speed_ratio=speed_ratio).clock()
    feeds = tuple(NvmlFeed.parse(text, fleet=fleet) for text in nvml)
    run = FleetRun(
        settings=settings,
        fleet=fleet,
        seed=seed,
        faults=parsed,
        clock=clock,
        feeds=feeds,
        without=_clusters(without, fleet),
    )
    with StopSignal() as stop:
        run.catch_up(stop)
        _log.info(
            "fleet_started",
            devices=sum(each.shard.device_count for each in run.shards.values()),
            shards=len(run.shards),
            tick_ms=tick_ms,
        )
        ticks, batches, due_ms = 0, 0, wall_ms()
        while not stop.is_set:
            batches += run.emit()
            ticks += 1
            if ticks % PROGRESS_TICKS == 0:
                _log.info("fleet_progress", ticks=ticks, batches=batches)
            due_ms = EpochMs(max(due_ms + tick_ms, wall_ms()))
            _follow_until(run, due_ms=due_ms, stop=stop)
        run.close()
    _log.info("fleet_ended", ticks=ticks, batches=batches)
    return 0


def _clusters(names: tuple[str, ...], fleet: Fleet) -> frozenset[str]:
    known = {cluster.cluster_id for site in fleet.facilities for cluster in site.clusters}
    unknown = sorted(set(names) - known)
    if unknown:
        raise FleetError(f"without must name clusters of the fleet, was {unknown[0]}")
    return frozenset(names)


def _follow_until(run: FleetRun, *, due_ms: int, stop: StopSignal) -> None:
    """Take in results until the next tick is due."""
    while not stop.is_set and (left_ms := due_ms - wall_ms()) > 0:
        run.follow(timeout_ms=min(left_ms, CATCH_UP_POLL_MS))
