"""Score every mode of every device class at a site; one score serves all devices of the class."""

import math
from dataclasses import dataclass
from typing import Final

from hcp.model.devices import DeviceClass, DeviceMode, ModeProfile
from hcp.model.facilities import Facility, Fleet
from hcp.model.ids import id_from_record
from hcp.model.markets import PriceSeries
from hcp.model.recommendations import RATE_MAX, ClassRecommendation, MarketSnapshot, ModeScore, Recommendation
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.steps import Cause
from hcp.model.units import (
    KWH_PER_MWH,
    MS_PER_HOUR,
    Btc,
    DurationMs,
    EpochMs,
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
from streams.market import MarketState, Quote, energy_stretch_usd_per_mwh

_PAYBACK_MS_MAX: Final = 2**53
_BREAK_EVEN_MAX: Final = 1e15
_WORDS_MAX: Final = 1_000

Sensitivities = dict[tuple[PriceSeries, str], float]
"""What revenue changes by, per unit of a quote (per unit of its logarithm for `LOG_SERIES`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePrices:
    """The prices of one site, looked up once for all its classes; None where none has been seen yet.

    The demand adder is that of the interval which the energy price is for.
    """

    market: MarketState
    energy: Quote | None
    btc: Quote | None
    difficulty: Quote | None
    subsidy: Quote | None
    fees: Quote | None
    hash_price: UsdPerThHour | None
    demand_adder: UsdPerKwh


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """One mode's terms before the modes are compared."""

    profile: ModeProfile
    revenue: UsdPerHour
    energy_cost: UsdPerHour
    demand_cost: UsdPerHour
    profit: UsdPerHour
    site_kilowatts: float
    sensitivities: Sensitivities


def recommend(market: MarketState, *, fleet: Fleet, facility: Facility, cause: Cause) -> Recommendation | Rejected:
    """Score all classes whose prices are all known, or say that the prices together are beyond any documented rate."""
    prices = site_prices(market, facility=facility)
    snapshot = _snapshot(prices)
    classes: list[ClassRecommendation] = []
    for name in facility.device_classes():
        device_class = fleet.device_class(name)
        scored = None if device_class is None else recommend_class(device_class, prices=prices, facility=facility)
        if scored is not None:
            classes.append(scored)
    worst = max(
        (abs(rate) for scored in classes for row in scored.scores for rate in _rates(row)),
        default=0.0,
    )
    if not max(worst, snapshot.hash_price_usd_per_th_hour or 0.0) <= RATE_MAX:
        return Rejected(
            reason=RejectReason.OUT_OF_RANGE,
            detail=f"prices together must give rates up to {RATE_MAX:g} USD/h, was {worst:g}",
        )
    return Recommendation(
        recommendation_id=id_from_record(topic=cause.topic, partition=cause.partition, offset=cause.offset),
        facility_id=facility.facility_id,
        observed_at_ms=EpochMs(market.observed_at_ms),
        market=snapshot,
        classes=tuple(classes),
        cause_topic=cause.topic,
        cause_partition=cause.partition,
        cause_offset=cause.offset,
        cause_timestamp_ms=max(cause.timestamp_ms, 0),
    )


def site_prices(market: MarketState, *, facility: Facility) -> SitePrices:
    """Look up the prices that all classes of a site share."""
    btc = market.latest(PriceSeries.BTC)
    difficulty = market.latest(PriceSeries.DIFFICULTY)
    subsidy = market.latest(PriceSeries.BLOCK_SUBSIDY)
    fees = market.latest(PriceSeries.BLOCK_FEES)
    hash_price = None
    if btc is not None and difficulty is not None and subsidy is not None and fees is not None:
        hash_price = economics.hash_price_usd_per_th_hour(
            difficulty=difficulty.value,
            subsidy_btc=Btc(subsidy.value),
            fees_btc_per_block=Btc(fees.value),
            btc_price_usd=btc.value,
        )
    energy = market.quote(PriceSeries.ENERGY_REAL_TIME, facility.energy_market)
    began_at_ms = market.observed_at_ms if energy is None else energy.observed_at_ms - energy.interval_ms
    return SitePrices(
        market=market,
        energy=energy,
        btc=btc,
        difficulty=difficulty,
        subsidy=subsidy,
        fees=fees,
        hash_price=hash_price,
        demand_adder=economics.demand_adder_usd_per_kwh(facility, at_ms=began_at_ms),
    )


def recommend_class(device_class: DeviceClass, *, prices: SitePrices, facility: Facility) -> ClassRecommendation | None:
    """Score one class; None when a price it depends on has not been seen.

    Modes that earn the same are ordered as the class lists them.
    """
    terms: list[_Terms] = []
    for profile in device_class.modes:
        scored = _terms(profile, device_class=device_class, prices=prices, facility=facility)
        if scored is None:
            return None
        terms.append(scored)
    ranked = sorted(terms, key=lambda row: -row.profit)  # stable: ties keep the order of the class
    best, runner_up = ranked[0], ranked[1]
    scores = tuple(_compare(row, best=best, prices=prices) for row in terms)
    runner_up_row = next(row for row in scores if row.mode is runner_up.profile.mode)
    return ClassRecommendation(
        device_class=device_class.device_class,
        best_mode=best.profile.mode,
        runner_up_mode=runner_up.profile.mode,
        delta_usd_per_hour=runner_up_row.gain_usd_per_hour,
        confidence=runner_up_row.confidence,
        scores=scores,
    )


def _terms(profile: ModeProfile, *, device_class: DeviceClass, prices: SitePrices, facility: Facility) -> _Terms | None:
    if prices.energy is None:
        return None
    earned = _revenue(profile, device_class=device_class, prices=prices, facility=facility)
    if earned is None:
        return None
    revenue, sensitivities = earned
    energy_cost = economics.energy_cost_usd_per_hour(
        power_watts=profile.power_watts,
        pue=facility.pue,
        price_usd_per_kwh=usd_per_kwh(UsdPerMwh(prices.energy.value)),
    )
    demand_cost = economics.demand_cost_usd_per_hour(
        power_watts=profile.power_watts, pue=facility.pue, adder_usd_per_kwh=prices.demand_adder
    )
    return _Terms(
        profile=profile,
        revenue=revenue,
        energy_cost=energy_cost,
        demand_cost=demand_cost,
        profit=economics.profit_usd_per_hour(
            revenue=revenue, energy_cost=energy_cost, demand_cost=demand_cost, wear=profile.wear_usd_per_hour
        ),
        site_kilowatts=economics.site_kilowatts(power_watts=profile.power_watts, pue=facility.pue),
        sensitivities=sensitivities,
    )


def _revenue(
    profile: ModeProfile, *, device_class: DeviceClass, prices: SitePrices, facility: Facility
) -> tuple[UsdPerHour, Sensitivities] | None:
    """Return revenue and what it depends on; None when a price is missing."""
    if profile.mode is DeviceMode.AI_INFERENCE:
        return _inference(device_class, prices=prices, facility=facility)
    if profile.algorithm is not None and profile.hash_rate_mh_per_s is not None:
        quote = prices.market.quote(PriceSeries.GPU_HASH_PRICE, profile.algorithm)
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
    rental = prices.market.quote(PriceSeries.GPU_RENTAL, device_class.device_class)
    utilisation = prices.market.quote(PriceSeries.INFERENCE_UTILISATION, device_class.device_class)
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


def _compare(row: _Terms, *, best: _Terms, prices: SitePrices) -> ModeScore:
    """Say what leaving `row` for the best mode means."""
    if row is best:
        return _score(row, gain=0.0, cost=0.0, payback_ms=None, confidence=1.0, break_even=None)
    gain = UsdPerHour(max(best.profit - row.profit, 0.0))
    cost = economics.switch_cost_usd(
        from_revenue=row.revenue,
        to_revenue=best.revenue,
        enter_ms=best.profile.enter_ms,
        enter_wear_usd=best.profile.enter_wear_usd,
        enter_reload_usd=best.profile.enter_reload_usd,
    )
    payback = economics.payback_hours(switch_cost=cost, gain=gain)
    break_even = economics.break_even_usd_per_mwh(
        net_difference=UsdPerHour(
            best.revenue - best.profile.wear_usd_per_hour - row.revenue + row.profile.wear_usd_per_hour
        ),
        kilowatt_difference=best.site_kilowatts - row.site_kilowatts,
        adder_usd_per_kwh=prices.demand_adder,
    )
    return _score(
        row,
        gain=gain,
        cost=cost,
        payback_ms=int(min(payback * MS_PER_HOUR, _PAYBACK_MS_MAX)) if gain > 0.0 else None,
        confidence=economics.confidence(
            gain=gain, sigma_usd_per_hour=_sigma(row, best=best, prices=prices), horizon_hours=payback
        ),
        break_even=break_even if break_even is not None and abs(break_even) <= _BREAK_EVEN_MAX else None,
    )


def _sigma(row: _Terms, *, best: _Terms, prices: SitePrices) -> float:
    """Return the standard deviation of the gain's change over an hour: each price's own, times its sensitivity."""
    assert prices.energy is not None
    per_usd_per_mwh = (row.site_kilowatts - best.site_kilowatts) / KWH_PER_MWH
    stretch = energy_stretch_usd_per_mwh(prices.energy.value)
    variance = (per_usd_per_mwh * stretch) ** 2 * (prices.energy.variance_per_hour or 0.0)
    for key in sorted(best.sensitivities.keys() | row.sensitivities.keys()):
        quote = prices.market.quote(*key)
        moved = best.sensitivities.get(key, 0.0) - row.sensitivities.get(key, 0.0)
        variance += moved**2 * ((quote.variance_per_hour if quote else None) or 0.0)
    return math.sqrt(variance)


def _score(
    row: _Terms,
    *,
    gain: float,
    cost: float,
    payback_ms: int | None,
    confidence: float,
    break_even: float | None,
) -> ModeScore:
    return ModeScore(
        mode=row.profile.mode,
        revenue_usd_per_hour=row.revenue,
        energy_cost_usd_per_hour=row.energy_cost,
        demand_cost_usd_per_hour=row.demand_cost,
        wear_usd_per_hour=row.profile.wear_usd_per_hour,
        profit_usd_per_hour=row.profit,
        power_watts=row.profile.power_watts,
        gain_usd_per_hour=UsdPerHour(gain),
        switch_cost_usd=Usd(cost),
        payback_ms=None if payback_ms is None else DurationMs(payback_ms),
        confidence=confidence,
        break_even_usd_per_mwh=break_even,
    )


def _rates(row: ModeScore) -> tuple[float, ...]:
    return (
        row.revenue_usd_per_hour,
        row.energy_cost_usd_per_hour,
        row.profit_usd_per_hour,
        row.gain_usd_per_hour,
        row.switch_cost_usd,
    )


def _snapshot(prices: SitePrices) -> MarketSnapshot:
    def value(quote: Quote | None) -> float | None:
        return None if quote is None else quote.value

    def seen(quote: Quote | None) -> int | None:
        return None if quote is None else quote.observed_at_ms

    return MarketSnapshot(
        energy_price_usd_per_mwh=value(prices.energy),
        energy_observed_at_ms=seen(prices.energy),
        btc_price_usd=value(prices.btc),
        btc_observed_at_ms=seen(prices.btc),
        difficulty=value(prices.difficulty),
        subsidy_btc=value(prices.subsidy),
        fees_btc_per_block=value(prices.fees),
        hash_price_usd_per_th_hour=prices.hash_price,
        energy_interval_ms=None if prices.energy is None else prices.energy.interval_ms,
        implausible="; ".join(doubt.words for doubt in prices.market.doubts)[:_WORDS_MAX],
    )
