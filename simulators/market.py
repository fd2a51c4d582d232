"""The market simulator: publishes a recorded or synthetic market on market.price at an adjustable speed."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final

import structlog

from hcp.clock import Clock, wall_ms
from hcp.errors import MarketDataError
from hcp.kafka.producer import RecordProducer
from hcp.market_data.replay import Market, recorded_market, replay
from hcp.market_data.series import read_sample, read_source
from hcp.model.facilities import Fleet
from hcp.model.markets import MarketPrice
from hcp.model.units import EpochMs
from hcp.settings import Settings
from simulators.run_clock import RunClock, StopSignal
from simulators.synthetic import synthetic_market

FLUSH_RECORDS: Final = 5_000
"""Records in flight at most before their delivery is waited for."""
FLUSH_MS: Final = 70_000
"""Longer than the producer's delivery timeout: a broker that restarts in between loses nothing."""
PROGRESS_MS: Final = 10_000
_SAMPLE_START_MS: Final = EpochMs(1_692_489_600_000)

_log = structlog.get_logger(__name__)


def sample_start_ms() -> EpochMs:
    """Return the start of the shipped week, 2023-08-20T00:00:00Z."""
    return _SAMPLE_START_MS


def open_market(*, fleet: Fleet, source: Path | None, synthetic_seed: int | None, start_ms: int | None) -> Market:
    """Read or make the market; facilities it has nothing for are left out and named in the log.

    Raises:
        MarketDataError: A file cannot be read, or no facility has a recorded energy price.
    """
    if synthetic_seed is not None:
        return synthetic_market(
            seed=synthetic_seed, fleet=fleet, start_ms=_SAMPLE_START_MS if start_ms is None else start_ms
        )
    hubs = frozenset(site.energy_market for site in fleet.facilities)
    recording = read_sample(hubs) if source is None else read_source(source, hubs)
    market = recorded_market(recording, fleet=fleet)
    if not market.facilities:
        raise MarketDataError(f"{source or 'the sample'} must hold one of {sorted(hubs)}, was without")
    _log.info(
        "market_read",
        points=len(recording.points),
        empty_rows=recording.empty_rows,
        repeated_rows=recording.repeated_rows,
    )
    for site in market.skipped:
        _log.warning("facility_without_prices", facility_id=site.facility_id, energy_market=site.energy_market)
    for series in market.lacking:
        _log.warning("series_not_recorded", series=series.value)
    return replace(market, start_ms=_SAMPLE_START_MS) if source is None else market


def market_prices(market: Market, *, start_ms: int, end_ms: float, loop: bool) -> Iterator[MarketPrice]:
    """Yield the window once, or over and over with event time moving on by its length."""
    span_ms = end_ms - start_ms
    for lap in count():
        shift_ms = 0 if lap == 0 else int(lap * span_ms)
        for price in replay(market, start_ms=start_ms, end_ms=end_ms):
            if lap == 0:
                yield price
            elif price.observed_at_ms > start_ms:
                yield replace(
                    price,
                    observed_at_ms=EpochMs(price.observed_at_ms + shift_ms),
                    interval_start_ms=EpochMs(price.interval_start_ms + shift_ms),
                )
        if not loop or not 0 < span_ms < math.inf:
            return


def publish(
    prices: Iterable[MarketPrice],
    *,
    producer: RecordProducer,
    run: RunClock,
    stop: StopSignal,
    clock: Clock = wall_ms,
) -> int:
    """Send each price when it is due; return how many were sent. Stops early when told to.

    Raises:
        BrokerError: A price was not delivered.
    """
    sent = unflushed = 0
    progress_at_ms = clock() + PROGRESS_MS
    for price in prices:
        wait_ms = run.due_ms(price.observed_at_ms) - clock() if run.is_paced else 0
        if unflushed and (wait_ms > 0 or unflushed >= FLUSH_RECORDS):
            producer.flush(timeout_ms=FLUSH_MS)
            unflushed = 0
        if stop.wait(wait_ms) if wait_ms > 0 else stop.is_set:
            break
        producer.send(price)
        sent, unflushed = sent + 1, unflushed + 1
        if clock() >= progress_at_ms:
            progress_at_ms = clock() + PROGRESS_MS
            _log.info("market_progress", sent=sent, observed_at_ms=price.observed_at_ms)
    producer.flush(timeout_ms=FLUSH_MS)
    return sent


def run_market(
    *,
    settings: Settings,
    fleet: Fleet,
    speed_ratio: float,
    source: Path | None = None,
    synthetic_seed: int | None = None,
    origin_ms: EpochMs | None = None,
    started_ms: EpochMs | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
    loop: bool = False,
) -> int:
    """Publish a market until its end, SIGTERM or SIGINT; return the exit code 0.

    Args:
        settings: Where Kafka is.
        fleet: Whose facilities see the prices.
        speed_ratio: Event seconds a wall second; 0 or infinite is as fast as possible.
        source: File or folder of recorded series; None is the shipped week.
        synthetic_seed: A synthetic market with this seed instead.
        origin_ms: Event time at `started_ms`; default: `start_ms`.
        started_ms: Wall time of the origin; default: now.
        start_ms: First event time; default: the origin, else when all series are known.
        end_ms: Last event time; default: the last energy price.
        loop: Begin again at the end, event time moving on.

    Raises:
        MarketDataError: The source cannot be replayed.
        BrokerError: Kafka did not take a price.
    """
    first_ms = start_ms if start_ms is not None else origin_ms
    market = open_market(fleet=fleet, source=source, synthetic_seed=synthetic_seed, start_ms=first_ms)
    first_ms = market.start_ms if first_ms is None else first_ms
    last_ms = market.end_ms if end_ms is None else end_ms
    run = RunClock(
        origin_ms=EpochMs(first_ms) if origin_ms is None else origin_ms,
        started_ms=wall_ms() if started_ms is None else started_ms,
        speed_ratio=speed_ratio,
    )
    prices = market_prices(market, start_ms=first_ms, end_ms=last_ms, loop=loop)
    producer = RecordProducer(bootstrap=settings.kafka_bootstrap, produced_by="simulator.market")
    with StopSignal() as stop:
        _log.info("market_started", start_ms=first_ms, end_ms=str(last_ms), speed_ratio=speed_ratio)
        sent = publish(prices, producer=producer, run=run, stop=stop)
    producer.close()
    _log.info("market_ended", sent=sent, is_complete=not stop.is_set)
    return 0
