"""Tables about the policies themselves: how true a probability is, a week of scarcity, how long a decision takes."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from rich.table import Table

from bench.recorded import ERCOT, S21, S21_ECO, SPP, Archive, at_ms, prices, site
from bench.walk import readings, walked
from hcp.market_data.series import Point
from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.units import MS_PER_DAY, MS_PER_HOUR
from streams.policies import ClassView, Policy, Reading, pair, policy_named

NewTable = Callable[..., Table]
BINS: Final = 10
NAMES: Final = ("greedy", "threshold", "lcp", "predictive", "always_mine")
SCARCITY_USD_PER_MWH: Final = 9_000.0
HISTORY_FROM, SCARCITY_FROM, SCARCITY_UNTIL = "2023-02-01", "2023-03-03", "2023-03-10"
UNTIL: Final = "2023-04-01"
TIMED: Final = 5_000
ROUNDS: Final = 5
PLACES: Final = (
    (ERCOT, "HB_WEST", "2024-01-01"),
    (ERCOT, "HB_SOUTH", "2024-01-01"),
    (SPP, "SPPNORTH_HUB", "2024-07-01"),
)
"""Hubs, and from when their predictions count."""


def probability(archive: Archive, new_table: NewTable) -> Table:
    """Return how often the order of two modes lasted until payback, beside how often it was said to."""
    to = new_table(
        f"S21: P(the better mode is the better one at payback, {pair.AHEAD_MAX} intervals ahead at most)",
        "predicted",
        "n",
        "predicted, mean",
        "observed",
    )
    for name, hub, from_day in PLACES:
        said, held = predictions(archive, name, hub, from_ms=at_ms(from_day))
        brier, constant = float(((said - held) ** 2).mean()), float(held.mean() * (1.0 - held.mean()))
        to.add_row(f"{hub}: Brier {brier:.4f}, a constant's {constant:.4f}", f"{len(said):,}", "", "")
        bins = np.minimum((said * BINS).astype(int), BINS - 1)
        for place in range(BINS):
            at = bins == place
            figures = (f"{said[at].mean():.3f}", f"{held[at].mean():.3f}") if at.any() else ("-", "-")
            to.add_row(f"{hub}, {place / BINS:.1f} to {(place + 1) / BINS:.1f}", f"{at.sum():,}", *figures)
    return to


def predictions(archive: Archive, name: str, hub: str, *, from_ms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what the pair learner said at each interval from a time on, and what came; the last have no answer."""
    fleet = site(hub, [S21])
    seen = prices(archive.energy(name, hub), bitcoin=archive.bitcoin(2023), fleet=fleet)
    book = readings(seen, fleet=fleet, policies=())[S21.device_class]
    row = pair.new_row()
    said: list[float] = []
    signs: list[bool] = []
    ahead: list[int] = []
    for scores, interval in zip(book.scores, book.intervals, strict=True):
        known = Reading(device_class=S21, scores=scores, start_ms=interval.start_ms, interval_ms=interval.length_ms)
        mining, sleep = scores.scores
        gain = mining.profit_usd_per_hour - sleep.profit_usd_per_hour
        start_usd, stop_usd = known.switch_cost_usd(sleep, mining), known.switch_cost_usd(mining, sleep)
        pair.observe(row, pair.Interval(interval.start_ms, interval.length_ms, gain, start_usd, stop_usd))
        said.append(row[pair.PROBABILITY])
        signs.append(gain > 0.0)
        size = abs(gain) * interval.length_ms / MS_PER_HOUR / (start_usd + stop_usd)
        ahead.append(pair.AHEAD_MAX if size * pair.AHEAD_MAX <= 1.0 else max(int(np.ceil(1.0 / size)), 1))
    due = np.arange(len(said)) + np.array(ahead)
    counts = (due < len(said)) & (np.array([each.start_ms for each in book.intervals]) >= from_ms)
    better = np.array(signs)
    return np.array(said)[counts], (better[due[counts]] == better[counts]).astype(float)


def scarcity(archive: Archive, new_table: NewTable) -> Table:
    """Return what a week at the prices of February 2021 does to one S21, put where HB_WEST had none."""
    to = new_table(
        f"S21 at HB_WEST, {HISTORY_FROM} to {UNTIL}, {SCARCITY_FROM} to {SCARCITY_UNTIL} SPLICED to "
        f"{SCARCITY_USD_PER_MWH:,.0f} USD/MWh",
        "policy",
        "profit USD",
        "share of the gap",
        "switches",
        "profit USD of the week",
        "switches of the week",
    )
    fleet = site("HB_WEST", [S21])
    spliced = [_spliced(point) for point in archive.energy(ERCOT, "HB_WEST") if point.observed_at_ms < at_ms(UNTIL)]
    policies = [policy_named(name) for name in NAMES]
    seen = prices(spliced, bitcoin=archive.bitcoin(2023), fleet=fleet, from_ms=at_ms(HISTORY_FROM))
    (walk,) = walked(seen, fleet=fleet, policies=policies).values()
    whole = walk.stretch(at_ms(HISTORY_FROM), at_ms(UNTIL))
    week = walk.stretch(at_ms(SCARCITY_FROM), at_ms(SCARCITY_UNTIL))
    for name, done, within in (
        *((name, whole.policies[name], week.policies[name]) for name in NAMES),
        ("hindsight", whole.hindsight, week.hindsight),
    ):
        to.add_row(
            name,
            f"{done.profit_usd:,.2f}",
            f"{done.gap_ratio:.3f}",
            f"{done.switch_count:,}",
            f"{within.profit_usd:,.2f}",
            f"{within.switch_count:,}",
        )
    return to


def _spliced(point: Point) -> Point:
    is_within = at_ms(SCARCITY_FROM) <= point.interval_start_ms < at_ms(SCARCITY_UNTIL)
    return replace(point, value=SCARCITY_USD_PER_MWH) if is_within else point


def times(archive: Archive, new_table: NewTable) -> Table:
    """Return the microseconds that taking in an interval and deciding take."""
    to = new_table(
        f"observe and decide, us a class and interval: median of {ROUNDS} rounds over {TIMED:,} intervals of HB_WEST",
        "policy",
        "2 modes",
        "3 modes",
        "memory bytes, 2 modes",
        "memory bytes, 3 modes",
    )
    steps = [_steps(archive, each) for each in (S21, S21_ECO)]
    for name in (*NAMES, "never"):
        policy = policy_named(name)
        timed = [_timed(policy, each) for each in steps]
        to.add_row(name, *(f"{us:.1f}" for us, _ in timed), *(f"{size:,}" for _, size in timed))
    return to


def _steps(archive: Archive, device_class: DeviceClass) -> Sequence[Reading]:
    fleet = site("HB_WEST", [device_class])
    until_ms = at_ms("2023-06-01") + TIMED // 96 * MS_PER_DAY
    points = [each for each in archive.energy(ERCOT, "HB_WEST") if each.observed_at_ms < until_ms]
    seen = prices(points, bitcoin=archive.bitcoin(2023), fleet=fleet, from_ms=at_ms("2023-06-01"))
    book = readings(seen, fleet=fleet, policies=())[device_class.device_class]
    return [
        Reading(device_class=device_class, scores=scores, start_ms=each.start_ms, interval_ms=each.length_ms)
        for scores, each in zip(book.scores, book.intervals, strict=True)
    ]


def _timed(policy: Policy, steps: Sequence[Reading]) -> tuple[float, int]:
    """Return microseconds a step, the making of its view included, and the size of the memory at the end."""
    taken: list[float] = []
    memory = b""
    for _ in range(ROUNDS):
        memory, mode = b"", DeviceMode.MINING
        begun = time.perf_counter_ns()
        for step in steps:
            memory = policy.observe(memory, step)
            view = ClassView(
                recommendation=step.scores,
                device_class=step.device_class,
                from_mode=mode,
                device_count=1,
                price_age_ms=0,
                memory=memory,
            )
            mode = policy.decide(view).to_mode
        taken.append((time.perf_counter_ns() - begun) / 1e3 / len(steps))
    return statistics.median(taken), len(memory)
