"""Replay prices through the very functions that decide live; what each policy did comes out as moves of devices.

A recommendation is made once a price and handed to every policy with that policy's own devices counted in it. A
switch takes effect at the event time of its decision, fails never, and is confirmed at the next recommendation.
"""

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from backtest.reliability import Predictions
from backtest.series import ClassSeries, Move, PolicyMoves
from hcp.model.commands import DecisionAction, OrchestratorCommand
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Facility, Fleet
from hcp.model.markets import MarketPrice
from hcp.model.recommendations import ClassDevices, ClassRecommendation, ModeDevices, Recommendation
from hcp.model.rejections import Rejected
from hcp.model.steps import Cause
from streams.economics import site_kilowatts
from streams.market import MarketState
from streams.optimizer import on_price
from streams.orchestrator import on_recommendation
from streams.policies import Policy
from streams.policies.predictive import Predictive
from streams.settlement import Interval, settled_interval
from streams.site import SiteState

OnDecision = Callable[[OrchestratorCommand], None]
Counts = dict[str, dict[DeviceMode, int]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BacktestRun:
    """What a run leaves: the series all are settled by, and what each policy moved.

    Attributes:
        series: One a facility and class that was scored, in the order of the fleet.
        moves: One a policy, facility and class of `series`.
        price_count: Prices taken in; late and repeated ones are not.
        passed_over_count: Prices that were late, repeated, of an unknown facility or out of range together.
        predictions: One a facility and class of `series`, of each policy that says how likely an order is to last.
    """

    series: tuple[ClassSeries, ...]
    moves: tuple[PolicyMoves, ...]
    price_count: int
    passed_over_count: int
    predictions: tuple[Predictions, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Recorder:
    """The settled intervals of one class while the run goes on."""

    starts_ms: "array[int]" = field(default_factory=lambda: array("q"))
    interval_ms: "array[int]" = field(default_factory=lambda: array("q"))
    energy: "array[float]" = field(default_factory=lambda: array("d"))
    profit: "array[float]" = field(default_factory=lambda: array("d"))
    revenue: "array[float]" = field(default_factory=lambda: array("d"))

    def add(self, scores: ClassRecommendation, interval: Interval, energy_usd_per_mwh: float) -> None:
        """Settle an interval at the rates that its price gave."""
        self.starts_ms.append(interval.start_ms)
        self.interval_ms.append(interval.length_ms)
        self.energy.append(energy_usd_per_mwh)
        for row in scores.scores:
            self.profit.append(row.profit_usd_per_hour)
            self.revenue.append(row.revenue_usd_per_hour)


@dataclass(slots=True, kw_only=True)
class _Book:
    """What one site has settled, by the rule that the live profit ledger follows."""

    settled_until_ms: int
    settle_from_ms: int
    recorders: dict[str, _Recorder] = field(default_factory=dict)

    def settle(self, recommendation: Recommendation) -> bool:
        """Settle the interval whose price a recommendation brought; say whether it did and the interval counts."""
        interval = settled_interval(recommendation, settled_until_ms=self.settled_until_ms)
        if interval is None:
            return False
        self.settled_until_ms = interval.end_ms
        energy = recommendation.market.energy_price_usd_per_mwh
        if interval.start_ms < self.settle_from_ms or energy is None:
            return False
        for scores in recommendation.classes:
            recorder = self.recorders.get(scores.device_class)
            if recorder is None:
                recorder = self.recorders[scores.device_class] = _Recorder()
            recorder.add(scores, interval, energy)
        return True


@dataclass(slots=True, kw_only=True)
class _Desk:
    """One policy at one site: its state and where its devices are."""

    policy: Policy
    facility_id: str
    counts: Counts
    site: SiteState | None = None
    epochs: dict[str, int] = field(default_factory=dict)
    devices: tuple[ClassDevices, ...] = ()
    moves: dict[str, list[Move]] = field(default_factory=dict)
    predictions: "dict[str, array[float]]" = field(default_factory=dict)

    def decide(self, recommendation: Recommendation, *, fleet: Fleet, cause: Cause, on_decision: OnDecision) -> None:
        """Let the policy decide on the devices as it has left them, and move those it switches."""
        step = on_recommendation(
            self.site,
            _with_devices(recommendation, self.devices),
            fleet=fleet,
            policy=self.policy,
            cause=cause,
        )
        assert not isinstance(step, Rejected), step
        for _, site in step.updates:
            self.site = site
        for output in step.outputs:
            if isinstance(output, OrchestratorCommand):
                on_decision(output)
                if output.action is DecisionAction.SWITCH:
                    self._move(output)

    def _move(self, command: OrchestratorCommand) -> None:
        by_mode = self.counts[command.device_class]
        by_mode[command.from_mode] -= command.device_count
        by_mode[command.to_mode] = by_mode.get(command.to_mode, 0) + command.device_count
        assert by_mode[command.from_mode] >= 0, command
        self.epochs[command.device_class] = self.epochs.get(command.device_class, 0) + 1
        self.moves.setdefault(command.device_class, []).append(
            Move(
                at_ms=command.observed_at_ms,
                from_mode=command.from_mode,
                to_mode=command.to_mode,
                device_count=command.device_count,
            )
        )
        self.count()

    def note_predictions(self, recommendation: Recommendation) -> None:
        """Keep what the policy says of every pair of modes, now that it has taken in the interval just settled."""
        if not isinstance(self.policy, Predictive) or self.site is None:
            return
        memories = {known.device_class: known.memory for known in self.site.classes}
        for scores in recommendation.classes:
            mode_count = len(scores.scores)
            said = self.policy.probabilities(memories.get(scores.device_class, b""), mode_count=mode_count)
            unknown = (math.nan,) * (mode_count * (mode_count - 1) // 2)
            self.predictions.setdefault(scores.device_class, array("d")).extend(said or unknown)

    def count(self) -> None:
        """Count the devices anew, as resource.state would."""
        self.devices = tuple(
            ClassDevices(
                device_class=name,
                modes=tuple(
                    ModeDevices(mode=mode, movable_count=count, switching_count=0)
                    for mode, count in sorted(by_mode.items())
                    if count
                ),
                stale_count=0,
                epoch_sum=self.epochs.get(name, 0),
            )
            for name, by_mode in sorted(self.counts.items())
        )


def _with_devices(recommendation: Recommendation, devices: tuple[ClassDevices, ...]) -> Recommendation:
    """Return the recommendation for other devices; written out since `replace` takes twice as long."""
    return Recommendation(
        recommendation_id=recommendation.recommendation_id,
        facility_id=recommendation.facility_id,
        observed_at_ms=recommendation.observed_at_ms,
        market=recommendation.market,
        classes=recommendation.classes,
        cause_topic=recommendation.cause_topic,
        cause_partition=recommendation.cause_partition,
        cause_offset=recommendation.cause_offset,
        cause_timestamp_ms=recommendation.cause_timestamp_ms,
        devices=devices,
        resource_state_offset=recommendation.resource_state_offset,
    )


def run_backtest(
    prices: Iterable[tuple[MarketPrice, Cause]],
    *,
    fleet: Fleet,
    policies: Sequence[Policy],
    settle_from_ms: int,
    on_decision: OnDecision = lambda _command: None,
) -> BacktestRun:
    """Let every policy decide over the same prices; deterministic.

    Args:
        prices: In event-time order for each facility, each with the record it came in: files or a topic's history.
        fleet: Whose devices decide; each starts in its initial mode.
        policies: One or more.
        settle_from_ms: Event time; intervals that begin earlier inform but earn nothing.
        on_decision: Is handed every decision published, in order; `policy` in it says whose.
    """
    markets: dict[str, MarketState] = {}
    books = {site.facility_id: _Book(settled_until_ms=0, settle_from_ms=settle_from_ms) for site in fleet.facilities}
    desks = {site.facility_id: _desks(site, policies) for site in fleet.facilities}
    taken = passed_over = 0
    for price, cause in prices:
        step = on_price(markets.get(price.facility_id), price, fleet=fleet, cause=cause)
        if isinstance(step, Rejected) or step.ignored is not None:
            passed_over += 1
            continue
        taken += 1
        markets.update(step.updates)
        for output in step.outputs:  # alerts too, about prices that are not believed
            if isinstance(output, Recommendation):
                is_settled = books[price.facility_id].settle(output)
                for desk in desks[price.facility_id]:
                    desk.decide(output, fleet=fleet, cause=cause, on_decision=on_decision)
                    if is_settled:
                        desk.note_predictions(output)
    return _finished(fleet, books, desks, price_count=taken, passed_over_count=passed_over)


def initial_counts(facility: Facility) -> Counts:
    """Return the devices by class and mode before anybody decided."""
    counts: Counts = {}
    for cluster in facility.clusters:
        by_mode = counts.setdefault(cluster.device_class, {})
        by_mode[cluster.initial_mode] = by_mode.get(cluster.initial_mode, 0) + cluster.device_count
    return counts


def _desks(facility: Facility, policies: Sequence[Policy]) -> list[_Desk]:
    desks = [
        _Desk(policy=policy, facility_id=facility.facility_id, counts=initial_counts(facility)) for policy in policies
    ]
    for desk in desks:
        desk.count()
    return desks


def _finished(
    fleet: Fleet,
    books: dict[str, _Book],
    desks: dict[str, list[_Desk]],
    *,
    price_count: int,
    passed_over_count: int,
) -> BacktestRun:
    series: list[ClassSeries] = []
    moves: list[PolicyMoves] = []
    predictions: list[Predictions] = []
    for facility in fleet.facilities:
        for name in facility.device_classes():
            recorder = books[facility.facility_id].recorders.get(name)
            if recorder is None:
                continue
            series.append(_series(recorder, facility=facility, device_class=name, fleet=fleet))
            moves.extend(
                PolicyMoves(
                    policy=desk.policy.name,
                    facility_id=facility.facility_id,
                    device_class=name,
                    moves=tuple(desk.moves.get(name, ())),
                )
                for desk in desks[facility.facility_id]
            )
            predictions.extend(
                _predictions(desk, series[-1]) for desk in desks[facility.facility_id] if name in desk.predictions
            )
    return BacktestRun(
        series=tuple(series),
        moves=tuple(moves),
        price_count=price_count,
        passed_over_count=passed_over_count,
        predictions=tuple(predictions),
    )


def _predictions(desk: _Desk, series: ClassSeries) -> Predictions:
    return Predictions(
        policy=desk.policy.name,
        facility_id=desk.facility_id,
        device_class=series.device_class,
        probabilities=np.array(desk.predictions[series.device_class]).reshape(len(series.starts_ms), -1),
    )


def _series(recorder: _Recorder, *, facility: Facility, device_class: str, fleet: Fleet) -> ClassSeries:
    profile = fleet.device_class(device_class)
    assert profile is not None
    counts = initial_counts(facility)[device_class]
    shape = (len(recorder.starts_ms), len(profile.modes))
    return ClassSeries(
        facility_id=facility.facility_id,
        device_class=device_class,
        modes=profile.modes,
        starts_ms=np.array(recorder.starts_ms, dtype=np.int64),
        interval_ms=np.array(recorder.interval_ms, dtype=np.int64),
        energy_usd_per_mwh=np.array(recorder.energy, dtype=np.float64),
        profit_usd_per_hour=np.array(recorder.profit, dtype=np.float64).reshape(shape),
        revenue_usd_per_hour=np.array(recorder.revenue, dtype=np.float64).reshape(shape),
        power_kw=np.array([site_kilowatts(power_watts=mode.power_watts, pue=facility.pue) for mode in profile.modes]),
        initial_counts=np.array([counts.get(mode.mode, 0) for mode in profile.modes], dtype=np.float64),
    )
