"""The latest telemetry of GPUs, in memory alone: it makes placements better, and none depends on it.

It has no changelog: the next tick brings it back, and a device without a reading scores in the middle.
"""

from typing import Final

import faust

from agents.deps import source
from agents.guard import record_of
from hcp.clock import wall_ms
from hcp.codecs import decode
from hcp.model.telemetry import GpuTelemetry
from hcp.model.units import MS_PER_MINUTE
from hcp.topics import METRICS_GPU
from streams.candidates import Reading
from streams.tickets import Place

AGE_MS_MAX: Final = MS_PER_MINUTE
"""Older records are passed over unread: after a long pause there are many."""
Readings = dict[Place, Reading]


def follow(app: faust.App) -> Readings:
    """Return the readings of all GPUs, which an agent of the app keeps up to date."""
    readings: Readings = {}

    @app.agent(source(app, METRICS_GPU), name="resources.readings")
    async def on_batches(stream: "faust.StreamT[bytes]") -> None:
        async for event in stream.events():
            record = record_of(event)
            if record.timestamp_ms < wall_ms() - AGE_MS_MAX:
                continue
            batch = decode(record.value)
            if isinstance(batch, GpuTelemetry):  # what is none is the fleet monitor's to refuse
                readings.update(readings_of(batch))

    return readings


def readings_of(batch: GpuTelemetry) -> Readings:
    """Return what a batch says of each of its devices."""
    return {
        (batch.shard_id, index): Reading(temperature_celsius=celsius, utilisation_ratio=used)
        for index, celsius, used in zip(
            batch.device_indexes, batch.temperature_celsius, batch.utilisation_ratio, strict=True
        )
    }
