"""Profit in event time: what was realised, and what "always mine" and "never switch" would have made."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.facilities import Facility, Fleet
from hcp.model.recommendations import ClassRecommendation, ModeScore, Recommendation
from hcp.model.units import MS_PER_HOUR, USD_MICROS_PER_USD, Usd, usd_micros
from streams.economics import switch_cost_usd

Counts = Mapping[str, Mapping[DeviceMode, int]]
"""Devices by class and mode at one site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfitSummary:
    """Totals in integer micro-dollars, switch costs already taken off.

    Attributes:
        realised_usd_micros: With the modes the devices really were in.
        always_mine_usd_micros: Had every device mined from the start, one switch to get there included.
        never_switch_usd_micros: Had every device kept its initial mode.
        switch_cost_usd_micros: What the realised switches cost.
        switch_count: Devices moved.
        covered_ms: Event time accounted for, summed over sites.
    """

    realised_usd_micros: int
    always_mine_usd_micros: int
    never_switch_usd_micros: int
    switch_cost_usd_micros: int
    switch_count: int
    covered_ms: int

    @property
    def realised_usd(self) -> float:
        """Return the realised profit in dollars."""
        return self.realised_usd_micros / USD_MICROS_PER_USD

    @property
    def always_mine_usd(self) -> float:
        """Return the profit of "always mine" in dollars."""
        return self.always_mine_usd_micros / USD_MICROS_PER_USD

    @property
    def never_switch_usd(self) -> float:
        """Return the profit of "never switch" in dollars."""
        return self.never_switch_usd_micros / USD_MICROS_PER_USD


@dataclass(frozen=True, slots=True, kw_only=True)
class _Last:
    """What a site's devices have been doing since `observed_at_ms`, at which scores."""

    observed_at_ms: int
    scores: dict[str, ClassRecommendation]
    counts: dict[str, dict[DeviceMode, int]]


@dataclass(slots=True, kw_only=True)
class ProfitLedger:
    """Adds up profit between recommendations: scores and counts hold from one until the next.

    The one mutable thing in streams/: an accumulator for a report, no decision depends on it.
    """

    fleet: Fleet
    _last: dict[str, _Last] = field(default_factory=dict)
    _initial: dict[tuple[str, str], dict[DeviceMode, int]] = field(default_factory=dict)
    _realised: int = 0
    _always_mine: int = 0
    _never: int = 0
    _switch_cost: int = 0
    _switches: int = 0
    _covered_ms: int = 0

    def add(self, recommendation: Recommendation, counts_by_class_mode: Counts) -> None:
        """Take in a recommendation and the devices by class and mode at its time; an older one is ignored."""
        facility = self.fleet.facility(recommendation.facility_id)
        if facility is None:
            return
        last = self._last.get(facility.facility_id)
        if last is not None and recommendation.observed_at_ms < last.observed_at_ms:
            return
        if last is not None:
            self._accrue(facility, last, until_ms=recommendation.observed_at_ms)
        scores = {scored.device_class: scored for scored in recommendation.classes}
        counts = {name: dict(by_mode) for name, by_mode in counts_by_class_mode.items()}
        for name in sorted(scores):
            device_class = self.fleet.device_class(name)
            if device_class is None:
                continue
            before = last.counts.get(name) if last is not None else None
            if before is not None and name in counts:
                self._charge(device_class, scored=scores[name], before=before, after=counts[name])
            self._open(facility, device_class, scored=scores[name])
        kept = {**(last.counts if last is not None else {}), **counts}
        self._last[facility.facility_id] = _Last(
            observed_at_ms=recommendation.observed_at_ms, scores=scores, counts=kept
        )

    def summary(self) -> ProfitSummary:
        """Return the totals up to the last recommendation of each site."""
        return ProfitSummary(
            realised_usd_micros=self._realised - self._switch_cost,
            always_mine_usd_micros=self._always_mine,
            never_switch_usd_micros=self._never,
            switch_cost_usd_micros=self._switch_cost,
            switch_count=self._switches,
            covered_ms=self._covered_ms,
        )

    def _accrue(self, facility: Facility, last: _Last, *, until_ms: int) -> None:
        """Add what the time since the last recommendation earned, really and in the two baselines."""
        passed_ms = until_ms - last.observed_at_ms
        if last.scores:  # before the first prices of a class there is nothing to account for
            self._covered_ms += passed_ms
        for name in sorted(last.scores):
            rows = {row.mode: row for row in last.scores[name].scores}
            initial = self._initial.get((facility.facility_id, name), {})
            self._realised += _earned(last.counts.get(name, {}), rows=rows, passed_ms=passed_ms)
            self._never += _earned(initial, rows=rows, passed_ms=passed_ms)
            mining = {DeviceMode.MINING: sum(initial.values())} if DeviceMode.MINING in rows else initial
            self._always_mine += _earned(mining, rows=rows, passed_ms=passed_ms)

    def _open(self, facility: Facility, device_class: DeviceClass, *, scored: ClassRecommendation) -> None:
        """Note a class's initial modes at its first scores, and charge "always mine" its one switch."""
        key = (facility.facility_id, device_class.device_class)
        if key in self._initial:
            return
        initial: dict[DeviceMode, int] = {}
        for cluster in facility.clusters:
            if cluster.device_class == device_class.device_class:
                initial[cluster.initial_mode] = initial.get(cluster.initial_mode, 0) + cluster.device_count
        self._initial[key] = initial
        if any(profile.mode is DeviceMode.MINING for profile in device_class.modes):
            mining = {DeviceMode.MINING: sum(initial.values())}
            for moved in _moves(initial, mining):
                self._always_mine -= _cost(device_class, scored=scored, moved=moved)

    def _charge(
        self,
        device_class: DeviceClass,
        *,
        scored: ClassRecommendation,
        before: Mapping[DeviceMode, int],
        after: Mapping[DeviceMode, int],
    ) -> None:
        """Charge the switches that the change of counts shows."""
        for moved in _moves(before, after):
            self._switches += moved[2]
            self._switch_cost += _cost(device_class, scored=scored, moved=moved)


def _earned(counts: Mapping[DeviceMode, int], *, rows: Mapping[DeviceMode, ModeScore], passed_ms: int) -> int:
    """Return micro-dollars earned; a mode without scores earns nothing."""
    return sum(
        usd_micros(Usd(count * rows[mode].profit_usd_per_hour * passed_ms / MS_PER_HOUR))
        for mode, count in sorted(counts.items())
        if mode in rows
    )


def _moves(
    before: Mapping[DeviceMode, int], after: Mapping[DeviceMode, int]
) -> list[tuple[DeviceMode, DeviceMode, int]]:
    """Return (from, to, devices) that turn one count into the other; devices that appear or vanish moved nowhere."""
    modes = sorted(before.keys() | after.keys())
    change = {mode: after.get(mode, 0) - before.get(mode, 0) for mode in modes}
    moves: list[tuple[DeviceMode, DeviceMode, int]] = []
    for source in modes:
        for target in modes:
            moved = min(-change[source], change[target])
            if moved > 0:
                moves.append((source, target, moved))
                change[source] += moved
                change[target] -= moved
    return moves


def _cost(device_class: DeviceClass, *, scored: ClassRecommendation, moved: tuple[DeviceMode, DeviceMode, int]) -> int:
    """Return the micro-dollars that one group of switches cost."""
    source, target, count = moved
    revenue = {row.mode: row.revenue_usd_per_hour for row in scored.scores}
    if source not in revenue or target not in revenue:
        return 0
    profile = device_class.profile(target)
    cost = switch_cost_usd(
        from_revenue=revenue[source],
        to_revenue=revenue[target],
        enter_ms=profile.enter_ms,
        enter_wear_usd=profile.enter_wear_usd,
        enter_reload_usd=profile.enter_reload_usd,
    )
    return count * usd_micros(cost)
