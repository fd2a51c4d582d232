"""Policies over recorded prices, one device each: the scores, policies and timing guards that run live, and no more.

`backtest.engine` runs the whole orchestrator and takes several times as long. Left out here are power cap, ramp,
staleness and customers, none of which binds a device by itself, and decisions between two energy prices.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from backtest.hindsight import best_fixed, best_path, priced_path
from backtest.series import ClassSeries
from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.facilities import Facility, Fleet
from hcp.model.markets import MarketPrice
from hcp.model.recommendations import ClassRecommendation, Recommendation
from hcp.model.rejections import Rejected
from hcp.model.steps import Cause
from streams.economics import site_kilowatts
from streams.guards import raises_power, timing_reason
from streams.market import MarketState
from streams.optimizer import on_price
from streams.policies import ClassView, Policy, Reading
from streams.settlement import Interval, settled_interval
from streams.site import ClassState


@dataclass(slots=True, kw_only=True)
class Desk:
    """One policy with one device of a class."""

    policy: Policy
    device_class: DeviceClass
    mode: DeviceMode
    known: ClassState
    modes: list[int] = field(default_factory=list)
    """Place of the mode the device was in, by interval."""

    def step(self, scores: ClassRecommendation, interval: Interval) -> None:
        """Book the mode of the interval that is over, take it in, and decide for the next."""
        self.modes.append([row.mode for row in scores.scores].index(self.mode))
        memory = self.policy.observe(
            self.known.memory,
            Reading(
                device_class=self.device_class,
                scores=scores,
                start_ms=interval.start_ms,
                interval_ms=interval.length_ms,
            ),
        )
        known = self.known
        if memory is not known.memory:
            known = self.known = _remembering(known, memory)
        view = ClassView(
            recommendation=scores,
            device_class=self.device_class,
            from_mode=self.mode,
            device_count=1,
            price_age_ms=0,
            memory=memory,
        )
        choice = self.policy.decide(view)
        if choice.to_mode is self.mode:
            return
        raises = raises_power(view, choice)
        reason = timing_reason(
            known,
            timing=self.policy.timing,
            raises_power=raises,
            gain=view.row(self.mode).gain_usd_per_hour,
            threshold=choice.threshold_usd_per_hour,
            now_ms=interval.end_ms,
        )
        if reason is None:
            self.mode = choice.to_mode
            self.known = ClassState(
                device_class=known.device_class,
                switched_at_ms=interval.end_ms,
                is_powered_up=raises,
                memory=memory,
            )


def _remembering(known: ClassState, memory: bytes) -> ClassState:
    return ClassState(
        device_class=known.device_class,
        switched_at_ms=known.switched_at_ms,
        is_powered_up=known.is_powered_up,
        memory=memory,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a policy did over a stretch.

    Attributes:
        profit_usd: Of one device.
        gap_ratio: (profit - best fixed) / (hindsight - best fixed); NaN where these two are equal.
        switch_count: Intervals begun in another mode than the one before.
    """

    profit_usd: float
    gap_ratio: float
    switch_count: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stretch:
    """One class over some of its intervals: yardsticks that may begin in any mode, and what each policy did."""

    gap_usd: float
    fixed: Figures
    hindsight: Figures
    late: Figures
    """Hindsight's own path, followed one interval late: what the lag costs even those who know what comes."""
    policies: Mapping[str, Figures]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Walk:
    """One class over all its intervals.

    Attributes:
        series: Its rates; one device.
        modes: For each policy the mode in each interval, [T].
    """

    series: ClassSeries
    modes: Mapping[str, NDArray[np.int8]]

    def stretch(self, from_ms: int = 0, until_ms: int = 2**62) -> Stretch:
        """Return what was made of the intervals that begin from `from_ms` on and before `until_ms`.

        A policy that switched into the first of them pays for it there.
        """
        starts = self.series.starts_ms
        first, last = (int(index) for index in np.searchsorted(starts, [from_ms, until_ms]))
        profit = self.series.profit_usd[first:last]
        cost = self.series.switch_cost_usd()[first:last]
        best = best_path(profit, cost, initial_mode=None)
        fixed = best_fixed(profit, cost, initial_mode=None)
        gap_usd = best.profit_usd - fixed.profit_usd

        def figures(profit_usd: float, switch_count: int) -> Figures:
            ratio = (profit_usd - fixed.profit_usd) / gap_usd if gap_usd > 0.0 else float("nan")
            return Figures(profit_usd=profit_usd, gap_ratio=ratio, switch_count=switch_count)

        done = {
            name: priced_path(
                modes[first:last], profit_usd=profit, switch_cost_usd=cost, initial_mode=int(modes[max(first - 1, 0)])
            )
            for name, modes in self.modes.items()
        }
        delayed = np.concatenate((best.modes[:1], best.modes[:-1]))
        late = priced_path(delayed, profit_usd=profit, switch_cost_usd=cost, initial_mode=None)
        return Stretch(
            gap_usd=gap_usd,
            fixed=figures(fixed.profit_usd, 0),
            hindsight=figures(best.profit_usd, best.switch_count),
            late=figures(late.profit_usd, late.switch_count),
            policies={name: figures(path.profit_usd, path.switch_count) for name, path in done.items()},
        )


@dataclass(slots=True, kw_only=True)
class Book:
    """What the intervals of one class were."""

    device_class: DeviceClass
    desks: list[Desk]
    intervals: list[Interval] = field(default_factory=list)
    scores: list[ClassRecommendation] = field(default_factory=list)
    energy: list[float] = field(default_factory=list)

    def walk(self, facility: Facility) -> Walk:
        """Return it as arrays."""
        modes = self.device_class.modes
        rows = [each.scores for each in self.scores]
        initial = next(each.initial_mode for each in facility.clusters if each.device_class == self.name)
        return Walk(
            series=ClassSeries(
                facility_id=facility.facility_id,
                device_class=self.name,
                modes=modes,
                starts_ms=np.array([each.start_ms for each in self.intervals], dtype=np.int64),
                interval_ms=np.array([each.length_ms for each in self.intervals], dtype=np.int64),
                energy_usd_per_mwh=np.array(self.energy),
                profit_usd_per_hour=np.array([[row.profit_usd_per_hour for row in each] for each in rows]),
                revenue_usd_per_hour=np.array([[row.revenue_usd_per_hour for row in each] for each in rows]),
                power_kw=np.array([site_kilowatts(power_watts=mode.power_watts, pue=facility.pue) for mode in modes]),
                initial_counts=np.array([float(mode.mode is initial) for mode in modes]),
            ),
            modes={desk.policy.name: np.array(desk.modes, dtype=np.int8) for desk in self.desks},
        )

    @property
    def name(self) -> str:
        """Return the id of the class."""
        return self.device_class.device_class


def readings(
    prices: Iterable[tuple[MarketPrice, Cause]], *, fleet: Fleet, policies: Sequence[Policy]
) -> dict[str, Book]:
    """Let every policy decide at each new energy price of the fleet's one site; return a book for each class."""
    (facility,) = fleet.facilities
    books = {
        cluster.device_class: _book(fleet, cluster.device_class, mode=cluster.initial_mode, policies=policies)
        for cluster in facility.clusters
    }
    state: MarketState | None = None
    settled_until_ms = 0
    for price, cause in prices:
        step = on_price(state, price, fleet=fleet, cause=cause)
        if isinstance(step, Rejected) or step.ignored is not None:
            continue
        state = step.updates[0][1]
        for output in step.outputs:
            if not isinstance(output, Recommendation):
                continue
            interval = settled_interval(output, settled_until_ms=settled_until_ms)
            if interval is None:
                continue
            settled_until_ms = interval.end_ms
            for scores in output.classes:
                book = books[scores.device_class]
                book.intervals.append(interval)
                book.scores.append(scores)
                book.energy.append(output.market.energy_price_usd_per_mwh or 0.0)
                for desk in book.desks:
                    desk.step(scores, interval)
    return books


def _book(fleet: Fleet, name: str, *, mode: DeviceMode, policies: Sequence[Policy]) -> Book:
    device_class = fleet.device_class(name)
    assert device_class is not None
    desks = [
        Desk(policy=policy, device_class=device_class, mode=mode, known=ClassState(device_class=name))
        for policy in policies
    ]
    return Book(device_class=device_class, desks=desks)


def walked(prices: Iterable[tuple[MarketPrice, Cause]], *, fleet: Fleet, policies: Sequence[Policy]) -> dict[str, Walk]:
    """Return what every policy did, by class."""
    books = readings(prices, fleet=fleet, policies=policies)
    return {name: book.walk(fleet.facilities[0]) for name, book in books.items()}
