"""Score every mode of one device class at one site, price after price; what a price leaves as it was is kept.

Most prices are energy prices: revenues, switch costs and break-even prices outlast them. What is kept is known by the
very quotes it was made from, so a scorer gives what a fresh one would, whatever it has seen before.
"""

import math
from dataclasses import dataclass, field
from typing import Final

from hcp.model.devices import DeviceClass, DeviceMode, ModeProfile
from hcp.model.facilities import Facility
from hcp.model.markets import PriceSeries
from hcp.model.recommendations import ClassRecommendation, ModeScore
from hcp.model.units import (
    KWH_PER_MWH,
    MS_PER_HOUR,
    DurationMs,
    Ratio,
    Usd,
    UsdPerHour,
    UsdPerKwh,
    UsdPerMhHour,
    UsdPerMwh,
    UsdPerThHour,
    usd_per_kwh,
)
from streams import economics
from streams.market import Quote, energy_stretch_usd_per_mwh

_PAYBACK_MS_MAX: Final = 2**53
_BREAK_EVEN_MAX: Final = 1e15

Sensitivities = dict[tuple[PriceSeries, str], float]
"""What revenue changes by, per unit of a quote (per unit of its logarithm for `LOG_SERIES`)."""
Leaving = tuple[UsdPerHour, Usd, DurationMs | None, float, float | None]
"""What leaving a mode for the best one means: gain, switch cost, payback, confidence, break-even price."""
_STAYING: Final[Leaving] = (UsdPerHour(0.0), Usd(0.0), None, 1.0, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePrices:
    """The prices of one site, looked up once for all its classes; None where none has been seen yet.

    Attributes:
        energy: The site's real-time energy price.
        btc: Bitcoin in USD.
        difficulty: Of the Bitcoin network.
        subsidy: Of a block.
        fees: Of a block.
        hash_price: From these four.
        demand_adder: Of the interval which the energy price is for.
        quotes: All quotes, but the energy price among them may be an older one: as long as nothing else changes it is
            the very same tuple.
    """

    energy: Quote | None
    btc: Quote | None
    difficulty: Quote | None
    subsidy: Quote | None
    fees: Quote | None
    hash_price: UsdPerThHour | None
    demand_adder: UsdPerKwh
    quotes: tuple[Quote, ...]

    def quote(self, series: PriceSeries, instrument: str) -> Quote | None:
        """Return the quote of exactly this instrument; for any series but energy."""
        for quote in self.quotes:
            if quote.series is series and quote.instrument == instrument:
                return quote
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """What leaving one mode for another means at any energy price.

    Attributes:
        cost: Of the switch.
        break_even: Energy price at which both earn the same; None where none in range does.
        per_usd_per_mwh: What the gain changes by per USD/MWh.
        variances: Of the gain in an hour, by each other price it depends on.
    """

    cost: Usd
    break_even: float | None
    per_usd_per_mwh: float
    variances: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Earnings:
    """What the modes earn and pay at any energy price, and what says so.

    Attributes:
        needed: The quotes it depends on; never energy.
        demand_adder: The other thing it depends on.
        demand_costs: One a mode.
        revenues: One a mode; empty when a quote is missing.
        sensitivities: One a mode.
        pairs: By mode left and best mode, filled as they are asked for.
    """

    needed: tuple[Quote | None, ...]
    demand_adder: UsdPerKwh
    demand_costs: tuple[UsdPerHour, ...]
    revenues: tuple[UsdPerHour, ...]
    sensitivities: tuple[Sensitivities, ...]
    pairs: dict[tuple[int, int], _Pair] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A class's scores, and the greatest rate among them in USD/h, whatever its sign."""

    scores: ClassRecommendation
    rate_max: float


class ClassScorer:
    """Scores one class at one site."""

    __slots__ = ("_kilowatts", "_last", "_seen", "device_class", "facility")

    def __init__(self, device_class: DeviceClass, *, facility: Facility) -> None:
        """Work out what no price changes."""
        self.device_class = device_class
        self.facility = facility
        self._kilowatts = tuple(
            economics.site_kilowatts(power_watts=profile.power_watts, pue=facility.pue)
            for profile in device_class.modes
        )
        # Each is one reference, read once and replaced whole: threads may share a scorer.
        self._seen: tuple[tuple[Quote, ...], _Earnings] | None = None
        self._last: tuple[_Earnings, Quote, Scored] | None = None

    def score(self, prices: SitePrices) -> Scored | None:
        """Score the class; None when a price it depends on has not been seen.

        Modes that earn the same are ordered as the class lists them.
        """
        energy, seen = prices.energy, self._seen
        if energy is None:
            return None
        if seen is None or seen[0] is not prices.quotes or seen[1].demand_adder != prices.demand_adder:
            seen = (prices.quotes, self._earned(prices, known=None if seen is None else seen[1]))
            self._seen = seen
        earnings = seen[1]
        if not earnings.revenues:
            return None
        last = self._last
        if last is not None and last[0] is earnings and last[1] is energy:
            return last[2]
        scored = self._scored(earnings, energy=energy)
        self._last = (earnings, energy, scored)
        return scored

    def _earned(self, prices: SitePrices, *, known: _Earnings | None) -> _Earnings:
        """Return what the modes earn; what is known when all that is behind it is still the same."""
        modes = self.device_class.modes
        needed = _needed(self.device_class, prices)
        if (
            known is not None
            and known.demand_adder == prices.demand_adder
            and all([old is new for old, new in zip(known.needed, needed, strict=True)])  # noqa: C419  # twice as fast
        ):
            return known
        earned = [
            _revenue(profile, device_class=self.device_class, prices=prices, facility=self.facility)
            for profile in modes
        ]
        found = [each for each in earned if each is not None]
        return _Earnings(
            needed=needed,
            demand_adder=prices.demand_adder,
            demand_costs=tuple(
                economics.demand_cost_usd_per_hour(
                    power_watts=profile.power_watts, pue=self.facility.pue, adder_usd_per_kwh=prices.demand_adder
                )
                for profile in modes
            ),
            revenues=tuple([revenue for revenue, _ in found]) if len(found) == len(modes) else (),
            sensitivities=tuple([sensitivities for _, sensitivities in found]),
        )

    def _scored(self, earnings: _Earnings, *, energy: Quote) -> Scored:
        """Score every mode at an energy price."""
        modes, revenues, demand_costs = self.device_class.modes, earnings.revenues, earnings.demand_costs
        price = usd_per_kwh(UsdPerMwh(energy.value))
        # As economics.energy_cost_usd_per_hour and profit_usd_per_hour have it, the kilowatts being known.
        energy_costs = [UsdPerHour(kilowatts * price) for kilowatts in self._kilowatts]
        profits = [
            UsdPerHour(revenue - energy_cost - demand_cost - profile.wear_usd_per_hour)
            for revenue, energy_cost, demand_cost, profile in zip(
                revenues, energy_costs, demand_costs, modes, strict=True
            )
        ]
        # Stable, reversed or not: ties keep the order of the class.
        best, runner_up = sorted(range(len(modes)), key=profits.__getitem__, reverse=True)[:2]
        best_profit, pairs = profits[best], earnings.pairs
        stretch = energy_stretch_usd_per_mwh(energy.value)
        energy_variance = energy.variance_per_hour or 0.0
        rate_max = max(*revenues, *map(abs, energy_costs), *map(abs, profits), best_profit - min(profits))
        rows: list[ModeScore] = []
        for index, profile in enumerate(modes):
            leaving = _STAYING
            if index != best:
                pair = pairs.get((index, best)) or self._pair(earnings, left=index, best=best)
                variance = (pair.per_usd_per_mwh * stretch) ** 2 * energy_variance
                leaving = _leaving(pair, UsdPerHour(best_profit - profits[index]), variance)
                rate_max = max(rate_max, pair.cost)
            rows.append(
                _row(profile, leaving, revenues[index], energy_costs[index], demand_costs[index], profits[index])
            )
        scores = ClassRecommendation(
            device_class=self.device_class.device_class,
            best_mode=modes[best].mode,
            runner_up_mode=modes[runner_up].mode,
            delta_usd_per_hour=rows[runner_up].gain_usd_per_hour,
            confidence=rows[runner_up].confidence,
            scores=tuple(rows),
        )
        return Scored(scores=scores, rate_max=rate_max)

    def _pair(self, earnings: _Earnings, *, left: int, best: int) -> _Pair:
        """Work out what leaving one mode for another means, and keep it."""
        row, target = self.device_class.modes[left], self.device_class.modes[best]
        row_revenue, best_revenue = earnings.revenues[left], earnings.revenues[best]
        break_even = economics.break_even_usd_per_mwh(
            net_difference=UsdPerHour(best_revenue - target.wear_usd_per_hour - row_revenue + row.wear_usd_per_hour),
            kilowatt_difference=self._kilowatts[best] - self._kilowatts[left],
            adder_usd_per_kwh=earnings.demand_adder,
        )
        pair = _Pair(
            cost=economics.switch_cost_usd(
                from_revenue=row_revenue,
                to_revenue=best_revenue,
                enter_ms=target.enter_ms,
                enter_wear_usd=target.enter_wear_usd,
                enter_reload_usd=target.enter_reload_usd,
            ),
            break_even=break_even if break_even is not None and abs(break_even) <= _BREAK_EVEN_MAX else None,
            per_usd_per_mwh=(self._kilowatts[left] - self._kilowatts[best]) / KWH_PER_MWH,
            variances=_variances(earnings, left=left, best=best),
        )
        earnings.pairs[left, best] = pair
        return pair


def _needed(device_class: DeviceClass, prices: SitePrices) -> tuple[Quote | None, ...]:
    """Return all quotes but energy that a class's scores depend on."""
    needed: list[Quote | None] = []
    for profile in device_class.modes:
        if profile.mode is DeviceMode.AI_INFERENCE:
            needed.append(prices.quote(PriceSeries.GPU_RENTAL, device_class.device_class))
            needed.append(prices.quote(PriceSeries.INFERENCE_UTILISATION, device_class.device_class))
        elif profile.algorithm is not None:
            needed.append(prices.quote(PriceSeries.GPU_HASH_PRICE, profile.algorithm))
        if profile.hash_rate_th_per_s is not None:
            needed += (prices.btc, prices.difficulty, prices.subsidy, prices.fees)
    return tuple(needed)


def _variances(earnings: _Earnings, *, left: int, best: int) -> tuple[float, ...]:
    """Return the variance of the gain in an hour by each price but energy: the price's own, times its sensitivity."""
    of_best, of_left = earnings.sensitivities[best], earnings.sensitivities[left]
    quotes = {(quote.series, quote.instrument): quote for quote in earnings.needed if quote is not None}
    found: list[float] = []
    for key in sorted(of_best.keys() | of_left.keys()):
        moved = of_best.get(key, 0.0) - of_left.get(key, 0.0)
        found.append(moved**2 * (quotes[key].variance_per_hour or 0.0))
    return tuple(found)


def _leaving(pair: _Pair, gain: UsdPerHour, energy_variance: float) -> Leaving:
    """Say what leaving a mode for the best one means.

    The standard deviation of the gain's change over an hour is that of each price, times the gain's sensitivity to it.
    """
    variance = energy_variance
    for each in pair.variances:
        variance += each
    payback = economics.payback_hours(switch_cost=pair.cost, gain=gain)
    sure = economics.confidence(gain=gain, sigma_usd_per_hour=math.sqrt(variance), horizon_hours=payback)
    payback_ms = DurationMs(int(min(payback * MS_PER_HOUR, _PAYBACK_MS_MAX))) if gain > 0.0 else None
    return gain, pair.cost, payback_ms, sure, pair.break_even


def _row(
    profile: ModeProfile,
    leaving: Leaving,
    revenue: UsdPerHour,
    energy_cost: UsdPerHour,
    demand_cost: UsdPerHour,
    profit: UsdPerHour,
) -> ModeScore:
    gain, cost, payback_ms, sure, break_even = leaving
    return ModeScore(
        mode=profile.mode,
        revenue_usd_per_hour=revenue,
        energy_cost_usd_per_hour=energy_cost,
        demand_cost_usd_per_hour=demand_cost,
        wear_usd_per_hour=profile.wear_usd_per_hour,
        profit_usd_per_hour=profit,
        power_watts=profile.power_watts,
        gain_usd_per_hour=gain,
        switch_cost_usd=cost,
        payback_ms=payback_ms,
        confidence=sure,
        break_even_usd_per_mwh=break_even,
    )


def _revenue(
    profile: ModeProfile, *, device_class: DeviceClass, prices: SitePrices, facility: Facility
) -> tuple[UsdPerHour, Sensitivities] | None:
    """Return revenue and what it depends on; None when a price is missing."""
    if profile.mode is DeviceMode.AI_INFERENCE:
        return _inference(device_class, prices=prices, facility=facility)
    if profile.algorithm is not None and profile.hash_rate_mh_per_s is not None:
        quote = prices.quote(PriceSeries.GPU_HASH_PRICE, profile.algorithm)
        if quote is None:
            return None
        revenue = economics.gpu_mining_revenue_usd_per_hour(
            hash_rate_mh_per_s=profile.hash_rate_mh_per_s, hash_price=UsdPerMhHour(quote.value)
        )
        return revenue, {(quote.series, quote.instrument): revenue}
    if profile.hash_rate_th_per_s is not None:
        if prices.hash_price is None:
            return None
        revenue = economics.asic_revenue_at(
            facility, hash_rate_th_per_s=profile.hash_rate_th_per_s, hash_price=prices.hash_price
        )
        return revenue, _hash_price_sensitivities(revenue, prices)
    return UsdPerHour(0.0), {}


def _inference(
    device_class: DeviceClass, *, prices: SitePrices, facility: Facility
) -> tuple[UsdPerHour, Sensitivities] | None:
    rental = prices.quote(PriceSeries.GPU_RENTAL, device_class.device_class)
    utilisation = prices.quote(PriceSeries.INFERENCE_UTILISATION, device_class.device_class)
    if rental is None or utilisation is None:
        return None
    revenue = economics.inference_revenue_usd_per_hour(
        rental_usd_per_hour=UsdPerHour(rental.value),
        utilisation_ratio=Ratio(utilisation.value),
        sla_bonus_ratio=facility.sla_bonus_ratio,
    )
    return revenue, {
        (rental.series, rental.instrument): revenue,
        (utilisation.series, utilisation.instrument): rental.value * facility.sla_bonus_ratio,
    }


def _hash_price_sensitivities(revenue: UsdPerHour, prices: SitePrices) -> Sensitivities:
    """Return d revenue / d ln(BTC), d ln(difficulty), d fees; the subsidy changes by halvings only, known ahead."""
    btc, difficulty, subsidy, fees = prices.btc, prices.difficulty, prices.subsidy, prices.fees
    assert btc is not None
    assert difficulty is not None
    assert subsidy is not None
    assert fees is not None
    reward_btc = subsidy.value + fees.value
    return {
        (btc.series, btc.instrument): revenue,
        (difficulty.series, difficulty.instrument): -revenue,
        (fees.series, fees.instrument): revenue / reward_btc if reward_btc > 0.0 else 0.0,
    }
