"""Export, import and copy of a topic in MB/s, beside bare consume+produce of the same bytes in the same run.

The limit reads with a bare consumer and sends with a bare producer, with the settings of HCP's own, and does nothing
else. `--megabytes` and `--rounds` make it short.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

from confluent_kafka import Consumer, TopicPartition

from bench.report import against, machine, show, table
from hcp.browse.archive import ArchiveReader, ArchiveWriter, Origin
from hcp.browse.moving import Target, copy_records, export_topic, import_records
from hcp.kafka.admin import ensure_topics
from hcp.kafka.forwarding import Forwarder
from hcp.kafka.ranges import Range, ranges_by_time
from hcp.settings import load_settings
from hcp.stack import default_cache_dir, running_stack
from hcp.topics import Cleanup, Topic

PARTITIONS: Final = 12
RECORD_BYTES: Final = 2_000
"""About a record of telemetry of one shard."""
HEADERS: Final = [("event_type", b"metrics.gpu"), ("produced_by", b"bench"), ("traceparent", b"0" * 55)]
BATCH: Final = 10_000
BYTES_PER_MB: Final = 1_000_000


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--megabytes", type=int, default=400, help="bytes of values in the topic")
    made.add_argument("--rounds", type=int, default=3, help="times each is measured; the median counts")
    return made


def main() -> None:
    """Print the table."""
    arguments = parser().parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # a random name within
        Path(folder).chmod(0o755)
        cache = default_cache_dir(load_settings().cache_dir)
        with running_stack(Path(folder) / "bench", cache, keep=False) as addresses:
            _measure(addresses.kafka_bootstrap, arguments, Path(folder))


def _measure(bootstrap: str, arguments: argparse.Namespace, folder: Path) -> None:
    bench = _Bench(bootstrap, folder, count=arguments.megabytes * BYTES_PER_MB // RECORD_BYTES)
    works: dict[str, Callable[[], int]] = {
        "bare consume": lambda: bench.bare(to=None),
        "bare consume+produce": lambda: bench.bare(to=bench.fresh()),
        "export to Parquet": lambda: bench.export("a.parquet"),
        "export to JSON lines": lambda: bench.export("a.jsonl"),
        "copy": bench.copy,
        "import from Parquet": lambda: bench.bring("a.parquet"),
        "import from JSON lines": lambda: bench.bring("a.jsonl"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(arguments.rounds):  # interleaved, so that a busy moment hits all alike
        for name, work in works.items():
            begun = time.perf_counter()
            moved = work()
            seconds[name].append(time.perf_counter() - begun)
            assert moved == bench.count, f"{name} must move {bench.count} records, was {moved}"
    megabytes = bench.count * RECORD_BYTES / BYTES_PER_MB
    found = table(f"{bench.count:,} records of {RECORD_BYTES:,} bytes", "what", "MB/s", "records/s", "limit", "ratio")
    limit = megabytes / median(seconds["bare consume+produce"])
    for name, taken in seconds.items():
        rate = megabytes / median(taken)
        found.add_row(name, f"{rate:,.0f}", f"{bench.count / median(taken):,.0f}", *against(rate, limit))
    show(machine(), found, f"limit: bare consume+produce of the same run; median of {arguments.rounds}")


class _Bench:
    """A full topic, and what is done to it."""

    def __init__(self, bootstrap: str, folder: Path, *, count: int) -> None:
        self._bootstrap, self._folder, self.count = bootstrap, folder, count
        self._made = 0
        self._source = self.fresh()
        source = random.Random(7)
        noise = source.randbytes(RECORD_BYTES * 64)
        forwarder = Forwarder(bootstrap=bootstrap, topic=self._source, client_id="bench")
        for number in range(count):
            begin = source.randrange(len(noise) - RECORD_BYTES // 2)
            half = noise[begin : begin + RECORD_BYTES // 2]  # compresses by about half, as telemetry does
            forwarder.send(
                key=b"tx-north.gpu-1",
                value=half + bytes(RECORD_BYTES - len(half)),
                headers=HEADERS,
                partition=number % PARTITIONS,
                timestamp_ms=1_790_000_000_000 + number,
            )
        forwarder.flush()

    def fresh(self) -> str:
        """Make an empty topic."""
        self._made += 1
        name = f"bench-{self._made}"
        topic = Topic(
            name=name,
            record=bytes,
            key="",
            partition_by="",
            partitions=PARTITIONS,
            cleanup=Cleanup.DELETE,
            retention_ms=-1,
            doc="",
        )
        ensure_topics(self._bootstrap, [topic])
        return name

    def bare(self, *, to: str | None) -> int:
        """Read everything and, with `to`, send it on; return how many."""
        consumer = Consumer({"bootstrap.servers": self._bootstrap, "group.id": "bench", "enable.auto.commit": False})
        consumer.assign([TopicPartition(each.topic, each.partition, each.start) for each in self._ranges()])
        forwarder = None if to is None else Forwarder(bootstrap=self._bootstrap, topic=to, client_id="bench")
        seen = 0
        while seen < self.count:
            for message in consumer.consume(BATCH, timeout=0.1):
                seen += 1
                if forwarder is not None:
                    forwarder.send(
                        key=message.key(),
                        value=message.value(),
                        headers=message.headers() or [],  # type: ignore[arg-type]  # a list where it was consumed
                        partition=message.partition() or 0,
                        timestamp_ms=message.timestamp()[1],
                    )
        if forwarder is not None:
            forwarder.flush()
        consumer.close()
        return seen

    def export(self, name: str) -> int:
        """Write the topic to a file."""
        writer = ArchiveWriter(str(self._folder / name), Origin(topic=self._source, partitions=PARTITIONS))
        return export_topic(self._bootstrap, self._ranges(), writer, key=None, on_step=lambda _: None).records

    def copy(self) -> int:
        """Copy the topic to an empty one."""
        target = Target(topic=self.fresh(), partitions=PARTITIONS)
        return copy_records(self._bootstrap, self._ranges(), target, key=None, on_step=lambda _: None).records

    def bring(self, name: str) -> int:
        """Import the file into an empty topic."""
        with ArchiveReader(str(self._folder / name)) as reader:
            target = Target(topic=self.fresh(), partitions=PARTITIONS)
            return import_records(self._bootstrap, reader, target, on_step=lambda _: None).records

    def _ranges(self) -> tuple[Range, ...]:
        return ranges_by_time(self._bootstrap, [self._source])


if __name__ == "__main__":
    main()
