"""Replay of telemetry, topic to topic, beside bare consume+produce of the same records in the same run; and its pace.

Run: `python -m bench.bench_replay`. A stack of its own. The limit reads with one bare consumer and sends with one bare
producer, with HCP's own settings, and does nothing else. Pace is told as how long after its time each record is sent.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from bench.report import against, machine, p50_p99, show, table
from hcp.codecs import encode
from hcp.kafka.admin import ensure_topics
from hcp.kafka.forwarding import Forwarder
from hcp.kafka.ranges import Range, ranges_by_time
from hcp.model.telemetry import AsicTelemetry
from hcp.model.units import EpochMs
from hcp.settings import load_settings
from hcp.stack import default_cache_dir, running_stack
from replay.run.job import Progress, run
from replay.run.plan import RunPlan, begin, target_topic
from tests.examples import ASIC_TELEMETRY, AT

PARTITIONS: Final = 24
DEVICES: Final = 128
BATCH: Final = 10_000
BYTES_PER_MB: Final = 1_000_000
GOAL: Final = 0.8
GOAL_LATE_MS: Final = 5.0
PACED_EVERY_MS: Final = 20
"""Event time between two records: 50 a second at speed 1, 500 at 10."""
PACED_SECONDS: Final = 15.0


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--records", type=int, default=20_000, help="of 128 devices each")
    made.add_argument("--rounds", type=int, default=3, help="times each is measured; the median counts")
    return made


def wide() -> AsicTelemetry:
    """Return a record of DEVICES devices."""
    cells: dict[str, Any] = {each.name: getattr(ASIC_TELEMETRY, each.name) for each in fields(ASIC_TELEMETRY)}
    for name, cell in cells.items():
        if isinstance(cell, tuple):
            cells[name] = cell[:1] * DEVICES
    return AsicTelemetry(**{**cells, "device_indexes": tuple(range(DEVICES))})


class Bench:
    """A topic of telemetry, and what is done to it."""

    def __init__(self, bootstrap: str, *, count: int) -> None:
        """Fill the topic, record after record over its partitions."""
        self.bootstrap, self.count = bootstrap, count
        self.source = "bench.telemetry"
        ensure_topics(bootstrap, [target_topic("bench", "telemetry", PARTITIONS)])
        forwarder, like = Forwarder(bootstrap=bootstrap, topic=self.source, client_id="bench"), wide()
        self.size_bytes = 0
        for number in range(count):
            value = encode(replace(like, observed_at_ms=EpochMs(AT + number * PACED_EVERY_MS)))
            self.size_bytes += len(value)
            forwarder.send(
                key=b"bench.c",
                value=value,
                headers=(),
                partition=number % PARTITIONS,
                timestamp_ms=AT + number * PACED_EVERY_MS,
            )
        forwarder.flush()
        self._made = 0

    def _fresh(self) -> str:
        self._made += 1
        return f"bench-{self._made}"

    def bare(self) -> None:
        """Consume and produce."""
        name = self._fresh()
        topic = target_topic(name, self.source, PARTITIONS)
        ensure_topics(self.bootstrap, [topic])
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "bench", "enable.auto.commit": False})
        consumer.assign([TopicPartition(each.topic, each.partition, each.start) for each in self._ranges()])
        forwarder, seen = Forwarder(bootstrap=self.bootstrap, topic=topic.name, client_id="bench"), 0
        while seen < self.count:
            for message in consumer.consume(BATCH, timeout=0.1):
                seen += 1
                forwarder.send(
                    key=message.key(),
                    value=message.value(),
                    headers=(),
                    partition=message.partition() or 0,
                    timestamp_ms=message.timestamp()[1],
                )
        forwarder.flush()
        consumer.close()

    def replay(self, *, speed: float | None, records: int | None = None) -> list[float]:
        """Replay it; return how many milliseconds late each record was sent."""
        ranges = self._ranges()
        if records is not None:
            ranges = tuple(replace(each, end=min(each.end, records // PARTITIONS)) for each in ranges)
        plan = RunPlan(
            into=self._fresh(),
            ranges=ranges,
            partitions={self.source: PARTITIONS},
            keys=(),
            speed=speed,
            from_ms=None,
            to_ms=None,
            planned_at_ms=0,
            planned_by="bench",
        )
        begin(self.bootstrap, plan)
        late_ms: list[float] = []
        progress = Progress()
        run(self.bootstrap, plan, ranges, progress=progress, on_late=lambda late_s: late_ms.append(late_s * 1_000))
        assert progress.records == sum(each.count for each in ranges)
        return late_ms

    def _ranges(self) -> tuple[Range, ...]:
        return ranges_by_time(self.bootstrap, [self.source])


def _throughput(bench: Bench, rounds: int) -> None:
    works: dict[str, Callable[[], object]] = {
        "bare consume+produce": bench.bare,
        "hcp replay run, speed max": lambda: bench.replay(speed=None),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):  # interleaved, so that a busy moment hits both alike
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - begun)
    title = f"{bench.count:,} records of {DEVICES} devices, {bench.size_bytes / bench.count:,.0f} bytes each"
    found = table(title, "what", "MB/s", "records/s", "limit", "ratio", "goal")
    megabytes = bench.size_bytes / BYTES_PER_MB
    limit = megabytes / median(seconds["bare consume+produce"])
    for name, taken in seconds.items():
        rate, goal = megabytes / median(taken), "" if name.startswith("bare") else f"{GOAL:.2f}"
        found.add_row(name, f"{rate:,.0f}", f"{bench.count / median(taken):,.0f}", *against(rate, limit), goal)
    show(found)


def _pace(bench: Bench) -> None:
    found = table(
        "How long after its time a record is sent", "speed", "records", "p50 ms", "p99 ms", "goal ms", "p99 / goal"
    )
    for speed in (1.0, 10.0):
        records = int(PACED_SECONDS * speed * 1_000 / PACED_EVERY_MS)
        late_ms = bench.replay(speed=speed, records=min(records, bench.count))
        p50, p99 = p50_p99(late_ms)
        found.add_row(
            f"{speed:g}",
            f"{len(late_ms):,}",
            f"{p50:.2f}",
            f"{p99:.2f}",
            f"{GOAL_LATE_MS:g}",
            f"{p99 / GOAL_LATE_MS:.2f}",
        )
    show(found)


def main() -> None:
    """Print the tables."""
    arguments = parser().parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        cache = default_cache_dir(load_settings().cache_dir)
        with running_stack(Path(folder) / "bench", cache, keep=False) as addresses:
            show(machine())
            bench = Bench(addresses.kafka_bootstrap, count=arguments.records)
            _throughput(bench, arguments.rounds)
            _pace(bench)
            show(machine())


if __name__ == "__main__":
    main()
