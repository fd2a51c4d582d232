"""Telemetry of the whole fleet for benchmarks: encoded once, then sent again and again with another event time.

Encoding in Python takes 8 us a row, more than all that is measured; here only the six bytes of the time are written.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Producer

from hcp.clock import wall_ms
from hcp.codecs import decode, encode
from hcp.fleet import load_fleet
from hcp.model.telemetry import AsicTelemetry, GpuTelemetry
from hcp.model.units import EpochMs
from hcp.topics import topic_of
from simulators.telemetry import fleet_physics, tick

ROOT: Final = Path(__file__).resolve().parents[1]
TICK_MS: Final = 5_000
READING: Final = (
    "A reading is one measured value of one device at one time: of the six columns that a row has for them those that "
    "are not null. Its mode, its names and its addresses count for nothing."
)
_MEASURED_FROM: Final = "power_watts"
"""The first column of a record that is measured; all after it are."""
_HEADER_BYTES: Final = 10
_TIME_BYTES: Final = 6
_VARIANTS: Final = 4
_QUEUE_BYTES_KIB: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One encoded record and where the time in it lies."""

    topic: str
    key: bytes
    partition: int
    data: bytes
    time_at: int
    rows: int
    readings: int

    def at(self, at_ms: int) -> bytes:
        """Return the record with another event time."""
        return self.data[: self.time_at] + _time(at_ms) + self.data[self.time_at + _TIME_BYTES :]


def _time(at_ms: int) -> bytes:
    """Return the Avro long of a time between 2004 and 2039, which takes six bytes."""
    rest, written = at_ms << 1, bytearray()
    for _ in range(_TIME_BYTES - 1):
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    assert rest < 0x80, f"a time must fit six bytes, was {at_ms}"
    written.append(rest)
    return bytes(written)


def _frame(value: AsicTelemetry | GpuTelemetry) -> Frame:
    names = (value.facility_id, value.cluster_id, value.shard_id, value.device_class)
    topic = topic_of(value)
    frame = Frame(
        topic=topic.name,
        key=topic.key_of(value),
        partition=topic.partition_of(value),
        data=encode(value),
        time_at=_HEADER_BYTES + sum(1 + len(name) for name in names),
        rows=len(value.device_indexes),
        readings=_readings(value),
    )
    later = EpochMs(value.observed_at_ms + TICK_MS)
    assert decode(frame.at(later)) == replace(value, observed_at_ms=later), "the time must be found"
    return frame


def _readings(value: AsicTelemetry | GpuTelemetry) -> int:
    names = [field.name for field in fields(value)]
    measured = names[names.index(_MEASURED_FROM) :]
    return sum(cell is not None for name in measured for cell in getattr(value, name))


def fleet_frames(*, is_single: bool = False) -> list[list[Frame]]:
    """Return some ticks of all 39,152 devices: a record a shard, or one a device, as outside producers may send."""
    shards = fleet_physics(load_fleet(ROOT / "fleet.toml"), seed=7)
    ticks = []
    for number in range(1 if is_single else _VARIANTS):
        values = tick(shards, passed_ms=TICK_MS, at_ms=EpochMs(wall_ms() + number), seed=7)
        ticks.append([_frame(part) for value in values for part in (_singles(value) if is_single else [value])])
    return ticks


def _singles(value: AsicTelemetry | GpuTelemetry) -> Iterator[AsicTelemetry | GpuTelemetry]:
    cells: dict[str, Any] = {field.name: getattr(value, field.name) for field in fields(value)}
    for place in range(len(value.device_indexes)):
        own: dict[str, Any] = {
            name: cell[place : place + 1] if isinstance(cell, tuple) else cell for name, cell in cells.items()
        }
        yield type(value)(**own)


class Feeder:
    """Sends frames, idempotent and acknowledged by all."""

    def __init__(self, bootstrap: str) -> None:
        """Connect lazily."""
        self.rows = self.records = self.readings = 0
        self._failed: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 5,
                "compression.type": "lz4",
                "queue.buffering.max.kbytes": _QUEUE_BYTES_KIB,
                "delivery.timeout.ms": 120_000,
            }
        )

    def send(self, frames: Sequence[Frame], at_ms: int, *, on_delivered: Any = None) -> None:  # noqa: ANN401  # librdkafka's
        """Queue frames at one event time."""
        for frame in frames:
            while True:
                try:
                    self._producer.produce(
                        frame.topic,
                        frame.at(at_ms),
                        frame.key,
                        partition=frame.partition,
                        on_delivery=on_delivered or self._delivered,
                    )
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self.rows += frame.rows
            self.readings += frame.readings
            self.records += 1
        self._producer.poll(0)

    def _delivered(self, error: object, _message: object) -> None:
        if error is not None:
            self._failed.append(str(error))

    def poll_until(self, until_s: float) -> None:
        """Serve acknowledgements until a time of the monotonic clock."""
        while (left_s := until_s - time.monotonic()) > 0:
            self._producer.poll(min(left_s, 0.05))

    def flush(self) -> None:
        """Wait until all is acknowledged."""
        assert self._producer.flush(120) == 0, "all records must be acknowledged"
        assert not self._failed, self._failed[0]


def backlog(bootstrap: str, *, rows: int, is_single: bool = False) -> Feeder:
    """Put at least so many rows on the broker, their event times a tick apart, the last one now."""
    ticks = fleet_frames(is_single=is_single)
    per_tick = sum(frame.rows for frame in ticks[0])
    count = -(-rows // per_tick)
    feeder, start_ms = Feeder(bootstrap), wall_ms() - count * TICK_MS
    for number, frames in enumerate(islice(cycle(ticks), count)):
        feeder.send(frames, start_ms + number * TICK_MS)
    feeder.flush()
    return feeder


def paced(bootstrap: str, *, seconds: float, slices: int, on_sent: Any) -> Feeder:  # noqa: ANN401  # as above
    """Send the fleet's ticks as they fall due, each in `slices` equal parts over its 5 s, for so long.

    `on_sent(frame, at_ms, offset)` is called for every record acknowledged.
    """
    ticks, feeder = cycle(fleet_frames()), Feeder(bootstrap)
    begun_s = time.monotonic()
    for number in range(int(seconds * 1_000 / TICK_MS * slices)):
        frames = next(ticks) if slices == 1 else next(ticks)[number % slices :: slices]
        due_s = begun_s + number * TICK_MS / slices / 1_000
        feeder.poll_until(due_s)
        at_ms = wall_ms()
        for frame in frames:
            feeder.send([frame], at_ms, on_delivered=_teller(frame, at_ms, on_sent))
    feeder.poll_until(time.monotonic() + 1.0)
    feeder.flush()
    return feeder


def _teller(frame: Frame, at_ms: int, on_sent: Any) -> Any:  # noqa: ANN401  # as above
    def delivered(error: object, message: Any) -> None:  # noqa: ANN401  # as above
        assert error is None, error
        on_sent(frame, at_ms, message.offset())

    return delivered
