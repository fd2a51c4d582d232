"""`hcp trace` of one id among a day of the full fleet's events, out of TimescaleDB.

Run: `python -m bench.bench_trace`. A stack of its own. The day: prices of three sites every five minutes with their
recommendations and decisions, four switches of each of 39,152 devices in commands of 64, and 10,000 workloads with six
events, a start and a usage each.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import UUID

from bench.report import machine, p50_p99, show, table
from hcp.browse.chain import chain_of
from hcp.kafka.records import ConsumedRecord, address_words
from hcp.model.ids import device_id
from hcp.model.units import EpochMs
from hcp.settings import load_settings
from hcp.stack import default_cache_dir, running_stack
from hcp.topics import topic_of
from sinks.timescale.chains import StoredChains
from sinks.timescale.migrations import migrate
from sinks.timescale.writer import Decoded, Writer
from streams.tickets import placement_id
from tests.examples import AT, COMMAND, DECISION, EVENT, PRICE, RECOMMENDATION, RESULT, USAGE
from tests.sink_process import Database, fresh_database

GOAL_MS: Final = 1_000.0
FLEET: Final = 39_152
DEVICES: Final = 64
SWITCHES_A_DAY: Final = 4
SITES: Final = ("tx-north", "tx-south", "is-one")
CLASSES: Final = ("s21", "s19", "h100", "a100")
PRICE_EVERY_MS: Final = 300_000
DAY_MS: Final = 86_400_000
WORKLOADS: Final = 10_000
EVENTS: Final = 6
BATCH: Final = 2_000
ASKED: Final = 100


class Day:
    """Makes the day's records, each with an address of its own, and remembers what to ask for."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._dice, self._offsets = Random(7), count()
        self.asked: dict[str, list[str]] = {"decision": [], "result": [], "price": [], "workload": [], "device": []}

    def records(self) -> Iterator[Decoded]:
        """Yield the day."""
        decisions: list[str] = []
        for at_ms in range(AT, AT + DAY_MS, PRICE_EVERY_MS):
            for site in SITES:
                yield from self._scored(site, at_ms, decisions)
        yield from self._switched(decisions)
        for _ in range(WORKLOADS):
            yield from self._worked()

    def _scored(self, site: str, at_ms: int, decisions: list[str]) -> Iterator[Decoded]:
        price = self._told(replace(PRICE, facility_id=site, observed_at_ms=EpochMs(at_ms)))
        yield price
        where = price.record
        self.asked["price"].append(address_words(where.topic, where.partition, where.offset))
        cause: dict[str, Any] = {"cause_topic": where.topic, "cause_partition": where.partition}
        cause |= {"cause_offset": where.offset, "facility_id": site, "observed_at_ms": EpochMs(at_ms)}
        recommendation_id = self._new()
        yield self._told(replace(RECOMMENDATION, recommendation_id=recommendation_id, **cause))
        for name in CLASSES:
            decisions.append(self._new())
            more: dict[str, Any] = {"recommendation_id": recommendation_id, "device_class": name}
            yield self._told(replace(DECISION, command_id=decisions[-1], **more, **cause))

    def _switched(self, decisions: list[str]) -> Iterator[Decoded]:
        for number in range(FLEET * SWITCHES_A_DAY // DEVICES):
            decision_id, command_id = self._dice.choice(decisions), self._new()
            shard = f"tx-north.asic-{number % 8}/{number % (FLEET // DEVICES // 8):02d}"
            at_ms = EpochMs(AT + number * DAY_MS // (FLEET * SWITCHES_A_DAY // DEVICES))
            common: dict[str, Any] = {"decision_id": decision_id, "command_id": command_id, "shard_id": shard}
            common["observed_at_ms"] = at_ms
            yield self._told(_wide(COMMAND, common))
            yield self._told(_wide(RESULT, common))
            self.asked["decision"].append(decision_id)
            self.asked["result"].append(command_id)
            self.asked["device"].append(device_id(shard_id=shard, device_index=number % DEVICES))

    def _worked(self) -> Iterator[Decoded]:
        workload_id, at_ms = self._new(), AT + self._dice.randrange(DAY_MS)
        self.asked["workload"].append(workload_id)
        for step in range(EVENTS):
            times: dict[str, Any] = {"observed_at_ms": EpochMs(at_ms + step * 1_000), "run_number": int(step > 0)}
            yield self._told(replace(EVENT, event_id=self._new(), workload_id=workload_id, **times))
        start: dict[str, Any] = {"decision_id": placement_id(workload_id, run_number=1), "command_id": self._new()}
        yield self._told(replace(COMMAND, observed_at_ms=EpochMs(at_ms), **start))
        yield self._told(
            replace(USAGE, usage_id=self._new(), workload_id=workload_id, observed_at_ms=EpochMs(at_ms + 60_000))
        )

    def _new(self) -> str:
        return str(UUID(int=self._dice.getrandbits(128), version=4))

    def _told(self, value: Any) -> Decoded:  # noqa: ANN401  # a record of any class
        record = ConsumedRecord(
            topic=topic_of(value).name,
            partition=0,
            offset=next(self._offsets),
            timestamp_ms=value.observed_at_ms,
            key=None,
            value=b"",
        )
        return Decoded(record=record, value=value)


def _wide(like: Any, changes: dict[str, Any]) -> Any:  # noqa: ANN401  # a columnar record
    cells = {name: getattr(like, name) for name in like.__dataclass_fields__}
    for name, cell in cells.items():
        if isinstance(cell, tuple):
            cells[name] = cell[:1] * DEVICES
    return type(like)(**{**cells, "device_indexes": tuple(range(DEVICES)), **changes})


def _filled(database: Database) -> Day:
    migrate(database.dsn)
    day, writer, batch = Day(), Writer(database.dsn, sink="bench"), []
    for told in day.records():
        batch.append(told)
        if len(batch) == BATCH:
            _store(writer, batch)
            batch = []
    _store(writer, batch)
    writer.close()
    return day


def _store(writer: Writer, batch: list[Decoded]) -> None:
    def refuse(refused: object) -> None:
        raise AssertionError(refused)

    writer.write(batch, expected={}, following={}, on_refused=refuse)


def _measure(database: Database, asked: int) -> None:
    begun = time.perf_counter()
    day = _filled(database)
    rows = database.count("switches") + database.count("controller_commands") + database.count("workload_events")
    show(f"stored in {time.perf_counter() - begun:,.0f} s; {rows:,} rows of commands, results and workloads")
    found = table("Chain of one id", "asked for", "records", "p50 ms", "p99 ms", "goal ms", "p99 / goal")
    source = StoredChains(database.dsn)
    dice = Random(11)
    for kind, names in day.asked.items():
        chosen = dice.sample(names, min(asked, len(names)))
        taken_ms, sizes = [], []
        for name in chosen:
            begun = time.perf_counter()
            sizes.append(len(chain_of(source, name).links))
            taken_ms.append((time.perf_counter() - begun) * 1_000)
        p50, p99 = p50_p99(taken_ms)
        mean = sum(sizes) / len(sizes)
        found.add_row(kind, f"{mean:,.1f}", f"{p50:,.1f}", f"{p99:,.1f}", f"{GOAL_MS:,.0f}", f"{p99 / GOAL_MS:.2f}")
    source.close()
    show(found)


def main() -> None:
    """Print the table."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--asked", type=int, default=ASKED, help="ids asked for of each kind")
    arguments = made.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        cache = default_cache_dir(load_settings().cache_dir)
        with (
            running_stack(Path(folder) / "bench", cache, keep=False) as addresses,
            fresh_database(addresses) as database,
        ):
            show(machine())
            _measure(database, arguments.asked)
            show(machine())


if __name__ == "__main__":
    main()
