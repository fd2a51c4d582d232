"""Sends what real devices measure, shard by shard, as the simulators do for simulated ones."""

import asyncio
from typing import Final

import structlog

from controllers.machines import Machines
from controllers.readings import Readings
from controllers.telemetry_batch import batch_of
from hcp.clock import Clock, wall_ms
from hcp.errors import BrokerError
from hcp.kafka.producer import RecordProducer
from hcp.model.ids import device_id

FLUSH_MS: Final = 5_000
_AGE_MS_MAX: Final = 10_000
"""A device that was not read in this round is not in its record, so that silence is seen."""

_log = structlog.get_logger(__name__)


class TelemetryOut:
    """A producer of its own: a broker that is away costs readings, never a result."""

    def __init__(self, machines: Machines, readings: Readings, *, bootstrap: str, produced_by: str) -> None:
        """Send the real shards of `machines`."""
        self._machines = machines
        self._readings = readings
        self._producer = RecordProducer(bootstrap=bootstrap, produced_by=produced_by)
        self._is_undelivered = False

    async def send(self, shard_id: str, *, clock: Clock = wall_ms) -> None:
        """Send the shard's readings of this round; nothing for a simulated one."""
        shard = self._machines.real.get(shard_id)
        if shard is None:
            return
        device_class = self._machines.fleet.device_class(shard.device_class)
        assert device_class is not None, "load_fleet checks the class of every cluster"
        found = {
            index: self._readings.fresh(device_id(shard_id=shard_id, device_index=index), age_ms_max=_AGE_MS_MAX)
            for index in range(shard.device_count)
        }
        batch = batch_of(
            shard,
            {index: each for index, each in found.items() if each is not None},
            kind=device_class.kind,
            observed_at_ms=clock(),
        )
        if batch is not None:
            await asyncio.to_thread(self._deliver, batch)

    def _deliver(self, batch: object) -> None:
        try:
            self._producer.send(batch)
            self._producer.flush(timeout_ms=FLUSH_MS)
        except BrokerError as error:
            if not self._is_undelivered:
                _log.warning("telemetry_undelivered", error=str(error))
            self._is_undelivered = True
        else:
            if self._is_undelivered:
                _log.info("telemetry_delivered_again")
            self._is_undelivered = False
