"""How fresh the database is at the fleet's own pace, and how soon again after something broke.

    python bench/bench_freshness.py                 39,152 devices every 5 s: event time to visible row
    python bench/bench_freshness.py --faults        kill -9 of the sink and of the database, members that come and go

A stack of its own; the sink has a name (`HCP_INSTANCE`), as in production. A row counts as visible when its offset
is, for both are of one transaction.
"""

import argparse
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import psycopg

from bench.ingest_load import Feeder, paced
from bench.ingest_watch import MB, Bench, Freshness, Seen, Used, stage, wait_for
from bench.report import machine, p50_p99, show, table
from hcp.clock import wall_ms
from hcp.stack.values import Service

SECONDS: Final = 60.0
GOAL_FRESH_MS: Final = 1_000
GOAL_AFTER_S: Final = 5.0
WARM_UP_S: Final = 15.0
FAULT_EVERY_S: Final = 25.0
FAULTS: Final = 4
SLICES: Final = 20


def calm(bench: Bench, seconds: float) -> None:
    """Print how long after its event time a row is there."""
    columns = ("fleet's ticks", "rows", "p50 ms", "p99 ms", "max ms", "goal ms", "p99 / goal")
    found, notes = table("event time to visible row", *columns), []
    with bench.sink() as sink:
        sink.wait_said("sink_ready")
        for slices, what in ((1, "all at once, every 5 s"), (SLICES, "spread over the 5 s")):
            fresh = Freshness(bench.database.dsn)
            fresh.begin()
            used, warm_ms = Used(bench, sink.process.pid), wall_ms() + WARM_UP_S * 1_000
            paced(bench.addresses.kafka_bootstrap, seconds=WARM_UP_S + seconds, slices=slices, on_sent=fresh.sent)
            wait_for(lambda f=fresh: f.waiting() == 0, 60, "all records stored")  # type: ignore[misc]
            fresh.end()
            late = [seen.fresh_ms for seen in fresh.seen if seen.at_ms >= warm_ms]
            rows = sum(seen.rows for seen in fresh.seen if seen.at_ms >= warm_ms)
            p50, p99 = p50_p99(late)
            cells = (f"{rows:,}", f"{p50:.0f}", f"{p99:.0f}", f"{max(late)}", f"{GOAL_FRESH_MS}")
            found.add_row(what, *cells, f"{p99 / GOAL_FRESH_MS:.2f}")
            notes.append(f"{what}: {used.words()}; peak memory of the sink {sink.memory_peak_bytes() / MB:.0f} MB")
    show(machine(), found, *notes, f"after {WARM_UP_S:.0f} s of warming up; looked at every 20 ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What was done, when, and when what it hit was back; ms since the epoch."""

    what: str
    done_ms: int
    back_ms: int


class Load(threading.Thread):
    """The fleet's ticks in the background."""

    def __init__(self, bench: Bench, fresh: Freshness, *, seconds: float) -> None:
        """Prepare; `start` sends."""
        super().__init__(daemon=True)
        self._bench, self._fresh, self._seconds = bench, fresh, seconds
        self.sent: Feeder | None = None

    def run(self) -> None:
        """Send."""
        bootstrap = self._bench.addresses.kafka_bootstrap
        self.sent = paced(bootstrap, seconds=self._seconds, slices=SLICES, on_sent=self._fresh.sent)


def faulty(bench: Bench) -> None:
    """Break things under load; print the seconds until rows are fresh again, and the rows lost or doubled."""
    fresh = Freshness(bench.database.dsn)
    fresh.begin()
    load = Load(bench, fresh, seconds=WARM_UP_S + (FAULTS + 1) * FAULT_EVERY_S)
    load.start()
    faults = list(_faults(bench, load, fresh))
    fresh.end()
    assert load.sent is not None, "the load must have been sent"
    questions = [
        bench.database.ask(f"select count(*) as n, count(distinct (device_id, observed_at)) as k from {name}")[0]  # noqa: S608
        for name in ("asic_telemetry", "gpu_telemetry")
    ]
    stored, keys = sum(each["n"] for each in questions), sum(each["k"] for each in questions)
    found = table(
        "recovery under the fleet's load", "fault", "s until it is back", "then s until fresh", "goal s", "ratio"
    )
    for fault in faults:
        after_s = max(0.0, _fresh_again_ms(fresh.seen, fault) - fault.back_ms) / 1_000
        cells = (f"{(fault.back_ms - fault.done_ms) / 1_000:.1f}", f"{after_s:.1f}", f"{GOAL_AFTER_S:.0f}")
        found.add_row(fault.what, *cells, f"{after_s / GOAL_AFTER_S:.2f}")
    lost = f"{load.sent.rows:,} rows sent, lost {load.sent.rows - stored}, doubled {stored - keys}"
    show(machine(), found, lost, f"fresh: no row of the next {FAULT_EVERY_S:.0f} s comes later than {GOAL_FRESH_MS} ms")


def _faults(bench: Bench, load: Load, fresh: Freshness) -> Iterator[Fault]:
    with bench.sink() as sink:
        sink.wait_said("sink_ready")
        time.sleep(WARM_UP_S)
        done_ms = wall_ms()
        sink.process.kill()
        sink.process.wait(timeout=10)
    with bench.sink() as sink:
        sink.wait_said("sink_ready")
        yield Fault(what="sink killed by -9", done_ms=done_ms, back_ms=wall_ms())
        time.sleep(FAULT_EVERY_S)
        done_ms = wall_ms()
        os.kill(bench.pid(Service.TIMESCALEDB), signal.SIGKILL)
        time.sleep(0.5)  # until no old backend answers any more
        wait_for(lambda: _answers(bench), 60, "the database back")
        yield Fault(what="database killed by -9", done_ms=done_ms, back_ms=wall_ms())
        time.sleep(FAULT_EVERY_S)
        done_ms = wall_ms()
        with bench.sink(instance="second") as second:
            second.wait_said("sink_ready")
            yield Fault(what="a second sink joins", done_ms=done_ms, back_ms=wall_ms())
            time.sleep(FAULT_EVERY_S)
            done_ms = wall_ms()
        yield Fault(what="the second sink ends", done_ms=done_ms, back_ms=wall_ms())
        load.join(timeout=WARM_UP_S + (FAULTS + 1) * FAULT_EVERY_S)
        wait_for(lambda: fresh.waiting() == 0, 60, "all records stored")


def _answers(bench: Bench) -> bool:
    try:
        with psycopg.connect(bench.database.dsn, connect_timeout=1) as connection:
            connection.execute("select 1")
    except psycopg.OperationalError:
        return False
    return True


def _fresh_again_ms(seen: list[Seen], fault: Fault) -> float:
    """Return when the last row that was not fresh was seen, of those due before the next fault."""
    until_ms = fault.done_ms + FAULT_EVERY_S * 1_000
    stale = [each.at_ms + each.fresh_ms for each in seen if each.fresh_ms > GOAL_FRESH_MS]
    return max((at_ms for at_ms in stale if fault.done_ms <= at_ms < until_ms), default=0)


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seconds", type=float, default=SECONDS, help=f"of each pace; default {SECONDS:.0f}")
    made.add_argument("--faults", action="store_true", help="break things instead")
    return made


def main() -> None:
    """Measure and print one table."""
    arguments = parser().parse_args()
    with stage() as bench:
        if arguments.faults:
            faulty(bench)
        else:
            calm(bench, arguments.seconds)


if __name__ == "__main__":
    main()
