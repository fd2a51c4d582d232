"""Profit in event time: what was realised, and what "always mine" and "never switch" would have made."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.facilities import Facility, Fleet
from hcp.model.recommendations import Recommendation
from hcp.model.units import USD_MICROS_PER_USD, Usd, usd_micros
from streams.settlement import (
    Interval,
    Rows,
    earned_usd,
    initial_counts,
    move_cost_usd,
    moves,
    rows_of,
    settled_interval,
)

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


@dataclass(slots=True, kw_only=True)
class ProfitLedger:
    """Adds up profit interval by interval, each settled by `streams.settlement` once its price is known.

    The one mutable thing in streams/: an accumulator for a report, no decision depends on it.
    """

    fleet: Fleet
    _settled_until_ms: dict[str, int] = field(default_factory=dict)
    _counts: dict[tuple[str, str], dict[DeviceMode, int]] = field(default_factory=dict)
    _begun: set[tuple[str, str]] = field(default_factory=set)
    _realised: int = 0
    _always_mine: int = 0
    _never: int = 0
    _switch_cost: int = 0
    _switches: int = 0
    _covered_ms: int = 0

    def add(self, recommendation: Recommendation, counts_by_class_mode: Counts) -> None:
        """Settle the interval whose price a recommendation brings; one without a new price changes nothing.

        Args:
            recommendation: In the order of event time.
            counts_by_class_mode: The devices that worked in the interval just ended: as they were before anything was
                decided on this recommendation. A class left out does what it did before.
        """
        facility = self.fleet.facility(recommendation.facility_id)
        if facility is None:
            return
        interval = settled_interval(
            recommendation, settled_until_ms=self._settled_until_ms.get(facility.facility_id, 0)
        )
        if interval is None:
            return
        self._settled_until_ms[facility.facility_id] = interval.end_ms
        if recommendation.classes:  # before the first prices of a class there is nothing to account for
            self._covered_ms += interval.length_ms
        for scored in recommendation.classes:
            device_class = self.fleet.device_class(scored.device_class)
            if device_class is not None:
                self._settle(
                    facility,
                    device_class,
                    rows=rows_of(scored),
                    interval=interval,
                    counts=counts_by_class_mode.get(scored.device_class),
                )

    def summary(self) -> ProfitSummary:
        """Return the totals up to the last settled interval of each site."""
        return ProfitSummary(
            realised_usd_micros=self._realised - self._switch_cost,
            always_mine_usd_micros=self._always_mine,
            never_switch_usd_micros=self._never,
            switch_cost_usd_micros=self._switch_cost,
            switch_count=self._switches,
            covered_ms=self._covered_ms,
        )

    def _settle(
        self,
        facility: Facility,
        device_class: DeviceClass,
        *,
        rows: Rows,
        interval: Interval,
        counts: Mapping[DeviceMode, int] | None,
    ) -> None:
        """Add what one class earned, really and in the two baselines, and charge the switches before it."""
        key = (facility.facility_id, device_class.device_class)
        initial = initial_counts(facility, device_class.device_class)
        mining = {DeviceMode.MINING: sum(initial.values())} if DeviceMode.MINING in rows else initial
        if key not in self._begun:
            self._begun.add(key)
            self._always_mine -= _cost(device_class, rows=rows, before=initial, after=mining)
        before = self._counts.get(key, initial)
        after = before if counts is None else dict(counts)
        self._counts[key] = dict(after)
        self._switches += sum(int(move.amount) for move in moves(before, after))
        self._switch_cost += _cost(device_class, rows=rows, before=before, after=after)
        self._realised += _earned(after, rows=rows, interval=interval)
        self._never += _earned(initial, rows=rows, interval=interval)
        self._always_mine += _earned(mining, rows=rows, interval=interval)


def _earned(counts: Mapping[DeviceMode, int], *, rows: Rows, interval: Interval) -> int:
    """Return micro-dollars earned; a mode without scores earns nothing."""
    return sum(
        usd_micros(Usd(count * earned_usd(rows[mode], interval)))
        for mode, count in sorted(counts.items())
        if mode in rows
    )


def _cost(
    device_class: DeviceClass, *, rows: Rows, before: Mapping[DeviceMode, int], after: Mapping[DeviceMode, int]
) -> int:
    """Return the micro-dollars that the switches between two counts cost, each device's rounded."""
    return sum(
        int(move.amount)
        * usd_micros(move_cost_usd(device_class, rows=rows, from_mode=move.from_mode, to_mode=move.to_mode))
        for move in moves(before, after)
    )
