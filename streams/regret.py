"""Regret, live: realised profit of each class beside hindsight so far and the best fixed mode so far, hour by hour.

Hindsight is an exact dynamic programme over modes that takes one interval at a time: to know the best path up to now it
is enough to remember, for each mode, the most that a path ending there has made. All is kept for one device and scaled
by the class's device count when an hour closes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.facilities import Facility, Fleet
from hcp.model.ids import id_from_content
from hcp.model.recommendations import ClassDevices, Recommendation
from hcp.model.regret import USD_MICROS_MAX, Regret
from hcp.model.rejections import Rejected
from hcp.model.steps import Step
from hcp.model.units import MS_PER_HOUR, EpochMs, Usd, usd_micros
from streams.rejecting import known_facility
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

Values = dict[DeviceMode, float]
"""Something of one device by mode: USD, or a share of the class's devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Devices that began in one mode.

    Attributes:
        initial_mode: As fleet.toml says.
        device_count: How many; above 0.
        best_usd: The most that one of them can have made, by the mode it ends in; switch costs taken off.
    """

    initial_mode: DeviceMode
    device_count: int
    best_usd: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRegret:
    """One class of a site; amounts are of one device, since `since_ms`, switch costs taken off.

    Attributes:
        device_class: The class.
        since_ms: Start of its first settled interval.
        starts: Its devices by initial mode.
        shares: Share of its devices by mode, as last counted; they add up to 1.
        fixed_usd: What each mode kept throughout would have made.
        realised_usd: What was made.
        switch_cost_usd: What switches have cost, already in `realised_usd`.
        realised_before_usd: `realised_usd` when the hour began.
        switch_cost_before_usd: `switch_cost_usd` when the hour began.
        covered_ms: Settled in this hour.
        counted_ms: The same, times the share of devices counted.
    """

    device_class: str
    since_ms: int
    starts: tuple[Start, ...]
    shares: Values
    fixed_usd: Values
    realised_usd: float = 0.0
    switch_cost_usd: float = 0.0
    realised_before_usd: float = 0.0
    switch_cost_before_usd: float = 0.0
    covered_ms: int = 0
    counted_ms: float = 0.0

    @property
    def device_count(self) -> int:
        """Return how many devices the class has."""
        return sum(start.device_count for start in self.starts)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegretState:
    """One site; classes sorted by name.

    Attributes:
        facility_id: The site.
        settled_until_ms: End of the last settled interval; 0 before the first.
        hour_start_ms: The hour that is open; 0 before the first.
        recommendation_id: What settled last; empty before the first.
        classes: Each class's accounts.
    """

    facility_id: str
    settled_until_ms: int = 0
    hour_start_ms: int = 0
    recommendation_id: str = ""
    classes: tuple[ClassRegret, ...] = ()


def on_recommendation_settled(
    state: RegretState | None, recommendation: Recommendation, *, fleet: Fleet
) -> Step[RegretState] | Rejected:
    """Settle the interval whose price this brings, and close the hour when it is the next hour's first.

    The table's key is the facility. A recommendation without a new energy price changes nothing.
    """
    facility = known_facility(fleet, recommendation.facility_id)
    if isinstance(facility, Rejected):
        return facility
    site = state or RegretState(facility_id=facility.facility_id)
    if recommendation.recommendation_id == site.recommendation_id:
        return Step(ignored="duplicate")
    interval = settled_interval(recommendation, settled_until_ms=site.settled_until_ms)
    if interval is None:
        seen_at_ms = recommendation.market.energy_observed_at_ms
        is_late = seen_at_ms is not None and seen_at_ms < site.settled_until_ms
        return Step(ignored="late" if is_late else None)
    outputs: tuple[Regret, ...] = ()
    hour_start_ms = interval.start_ms // MS_PER_HOUR * MS_PER_HOUR
    if hour_start_ms > site.hour_start_ms:
        outputs = tuple(_closed(site, known) for known in site.classes if known.covered_ms)
        site = replace(site, hour_start_ms=hour_start_ms, classes=tuple(_opened(known) for known in site.classes))
    site = replace(
        site,
        settled_until_ms=interval.end_ms,
        recommendation_id=recommendation.recommendation_id,
        classes=_settled(site, recommendation, interval=interval, facility=facility, fleet=fleet),
    )
    return Step(updates=((facility.facility_id, site),), outputs=outputs)


def hindsight_usd(known: ClassRegret) -> float:
    """Return what the best sequences of modes would have made with all devices of a class."""
    return sum(start.device_count * max(start.best_usd.values()) for start in known.starts)


def best_fixed(known: ClassRegret) -> tuple[DeviceMode, float]:
    """Return the mode that would have made most if kept throughout, and what with all devices; equals by name."""
    mode = max(sorted(known.fixed_usd), key=lambda mode: known.fixed_usd[mode])
    return mode, known.device_count * known.fixed_usd[mode]


def _settled(
    site: RegretState, recommendation: Recommendation, *, interval: Interval, facility: Facility, fleet: Fleet
) -> tuple[ClassRegret, ...]:
    """Return every class after the interval; one without scores keeps a gap."""
    classes = {known.device_class: known for known in site.classes}
    counted = {devices.device_class: devices for devices in recommendation.devices}
    for scored in recommendation.classes:
        name = scored.device_class
        device_class, begun = fleet.device_class(name), initial_counts(facility, name)
        if device_class is None or not begun:
            continue
        rows = rows_of(scored)
        known = classes.get(name)
        if known is None or _has_changed(known, rows=rows, begun=begun):
            known = _begun(device_class, begun, rows=rows, since_ms=interval.start_ms)
        known = _compared(known, device_class=device_class, rows=rows, interval=interval)
        classes[name] = _realised(known, counted.get(name), device_class=device_class, rows=rows, interval=interval)
    return tuple(classes[name] for name in sorted(classes))


def _has_changed(known: ClassRegret, *, rows: Rows, begun: Mapping[DeviceMode, int]) -> bool:
    """Say whether the fleet's description changed; then no path compares any more, and the class begins anew."""
    return known.fixed_usd.keys() != rows.keys() or begun != {
        start.initial_mode: start.device_count for start in known.starts
    }


def _begun(device_class: DeviceClass, begun: Mapping[DeviceMode, int], *, rows: Rows, since_ms: int) -> ClassRegret:
    """Return a class before its first interval: nothing made, and the way into each fixed mode paid."""
    total = sum(begun.values())
    shares = {mode: count / total for mode, count in begun.items()}
    return ClassRegret(
        device_class=device_class.device_class,
        since_ms=since_ms,
        starts=tuple(
            Start(initial_mode=mode, device_count=begun[mode], best_usd={mode: 0.0}) for mode in sorted(begun)
        ),
        shares=shares,
        fixed_usd={
            target: -sum(
                share * move_cost_usd(device_class, rows=rows, from_mode=mode, to_mode=target)
                for mode, share in shares.items()
            )
            for target in rows
        },
    )


def _compared(known: ClassRegret, *, device_class: DeviceClass, rows: Rows, interval: Interval) -> ClassRegret:
    """Take the interval into hindsight and the fixed modes."""
    earned = {mode: earned_usd(row, interval) for mode, row in rows.items()}

    def extended(best_usd: Values) -> Values:
        return {
            mode: max(
                held - move_cost_usd(device_class, rows=rows, from_mode=before, to_mode=mode)
                for before, held in best_usd.items()
            )
            + earned[mode]
            for mode in rows
        }

    return replace(
        known,
        starts=tuple(replace(start, best_usd=extended(start.best_usd)) for start in known.starts),
        fixed_usd={mode: usd + earned[mode] for mode, usd in known.fixed_usd.items()},
    )


def _realised(
    known: ClassRegret, devices: ClassDevices | None, *, device_class: DeviceClass, rows: Rows, interval: Interval
) -> ClassRegret:
    """Take the interval into what was made; devices not counted count as doing what the others did, or did last."""
    counts = {} if devices is None else {at.mode: at.movable_count + at.switching_count for at in devices.modes}
    counted = sum(counts.values())
    shares = {mode: count / counted for mode, count in counts.items()} if counted else known.shares
    cost = sum(
        move.amount * move_cost_usd(device_class, rows=rows, from_mode=move.from_mode, to_mode=move.to_mode)
        for move in moves(known.shares, shares)
    )
    earned = sum(share * earned_usd(rows[mode], interval) for mode, share in shares.items() if mode in rows)
    return replace(
        known,
        shares=shares,
        realised_usd=known.realised_usd + earned - cost,
        switch_cost_usd=known.switch_cost_usd + cost,
        covered_ms=known.covered_ms + interval.length_ms,
        counted_ms=known.counted_ms + interval.length_ms * min(counted / known.device_count, 1.0),
    )


def _opened(known: ClassRegret) -> ClassRegret:
    """Return a class at the beginning of an hour."""
    return replace(
        known,
        realised_before_usd=known.realised_usd,
        switch_cost_before_usd=known.switch_cost_usd,
        covered_ms=0,
        counted_ms=0.0,
    )


def _closed(site: RegretState, known: ClassRegret) -> Regret:
    """Return the record of the hour that ends; an hour is the difference of two totals, so that hours add up."""
    count = known.device_count
    mode, fixed_usd = best_fixed(known)
    realised = _micros(count * known.realised_usd)
    return Regret(
        regret_id=id_from_content(site.facility_id, known.device_class, site.hour_start_ms),
        facility_id=site.facility_id,
        device_class=known.device_class,
        hour_start_ms=EpochMs(site.hour_start_ms),
        since_ms=EpochMs(known.since_ms),
        covered_ms=known.covered_ms,
        device_count=count,
        counted_ratio=min(known.counted_ms / known.covered_ms, 1.0),
        realised_usd_micros=realised - _micros(count * known.realised_before_usd),
        switch_cost_usd_micros=_micros(count * known.switch_cost_usd) - _micros(count * known.switch_cost_before_usd),
        realised_so_far_usd_micros=realised,
        hindsight_so_far_usd_micros=_micros(hindsight_usd(known)),
        best_fixed_so_far_usd_micros=_micros(fixed_usd),
        best_fixed_mode=mode,
        observed_at_ms=EpochMs(site.hour_start_ms + MS_PER_HOUR),
    )


def _micros(amount_usd: float) -> int:
    """Return micro-dollars, within what a record may hold: only absurd prices come near."""
    return max(-USD_MICROS_MAX, min(usd_micros(Usd(amount_usd)), USD_MICROS_MAX))
