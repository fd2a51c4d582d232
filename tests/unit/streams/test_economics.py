"""Each term of the economics against a calculation by hand; docs/economics.md shows the steps."""

import math
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest

from hcp.model.devices import DeviceMode
from hcp.model.facilities import DemandWindow
from hcp.model.markets import PriceSeries
from hcp.model.units import (
    Btc,
    DurationMs,
    MhPerSecond,
    Ratio,
    ThPerSecond,
    Usd,
    UsdPerHour,
    UsdPerKwh,
    UsdPerMhHour,
    UsdPerThHour,
    Watts,
)
from streams import economics
from streams.policies import policy_named
from tests.unit.streams.world import DEMO_FLEET, Plane, a_price


def test_hash_price_matches_the_hand_calculation() -> None:
    """1 TH/s for an hour at difficulty 80e12, 3.25 BTC a block and 60,000 USD earns 0.0020430 USD.

    3.6e15 hashes / (80e12 * 4,294,967,296 = 3.43597e23) = 1.047738e-8 blocks; * 3.25 * 60,000.
    """
    price = economics.hash_price_usd_per_th_hour(
        difficulty=80e12, subsidy_btc=Btc(3.125), fees_btc_per_block=Btc(0.125), btc_price_usd=60_000.0
    )
    assert price == pytest.approx(0.00204309, rel=1e-5)


def test_hash_price_matches_the_published_index_of_january_2023() -> None:
    """When bitcoin broke 21,000 USD in January 2023, Luxor's Hashprice Index read 78 USD/(PH/s*day).

    Difficulty was 34.09e12, fees about 0.1 BTC a block. The index: "Hashrate Index 2022 Bitcoin
    Mining Year in Review", quoted by Wu Blockchain on 2023-01-15.
    """
    price = economics.hash_price_usd_per_th_hour(
        difficulty=34.09e12, subsidy_btc=Btc(6.25), fees_btc_per_block=Btc(0.1), btc_price_usd=21_000.0
    )
    assert price * 24 * 1_000 == pytest.approx(78.0, rel=0.03)


def test_expected_blocks_agree_with_the_network_s_own_hash_rate() -> None:
    """The whole network (difficulty * 2^32 / 600 s) must find one block in ten minutes: six rewards an hour."""
    network_th_per_s = 80e12 * 2**32 / 600 / 1e12
    price = economics.hash_price_usd_per_th_hour(
        difficulty=80e12, subsidy_btc=Btc(3.125), fees_btc_per_block=Btc(0.0), btc_price_usd=1.0
    )
    assert network_th_per_s * price == pytest.approx(6 * 3.125)


def test_hash_price_refuses_no_difficulty() -> None:
    """A difficulty of 0 is a broken feed, not free money."""
    with pytest.raises(ValueError, match="difficulty must be above 0"):
        economics.hash_price_usd_per_th_hour(
            difficulty=0.0, subsidy_btc=Btc(3.125), fees_btc_per_block=Btc(0.0), btc_price_usd=1.0
        )


def test_asic_revenue_takes_off_fee_rejects_and_downtime() -> None:
    """200 TH/s * 0.002 * 0.99 * 0.998 * 0.99 = 0.39125 USD/h."""
    revenue = economics.asic_mining_revenue_usd_per_hour(
        hash_rate_th_per_s=ThPerSecond(200.0),
        hash_price=UsdPerThHour(0.002),
        pool_fee_ratio=Ratio(0.01),
        reject_ratio=Ratio(0.002),
        uptime_ratio=Ratio(0.99),
    )
    assert revenue == pytest.approx(0.39125592)


def test_gpu_mining_revenue_is_rate_times_its_own_hash_price() -> None:
    """115 MH/s at 0.0004 USD/(MH/s*h) earn 0.046 USD/h."""
    assert economics.gpu_mining_revenue_usd_per_hour(
        hash_rate_mh_per_s=MhPerSecond(115.0), hash_price=UsdPerMhHour(0.0004)
    ) == pytest.approx(0.046)


def test_inference_revenue_is_rental_times_use_and_bonus() -> None:
    """2.50 USD/h at 60 % utilisation with a 5 % bonus is 1.575 USD/h."""
    assert economics.inference_revenue_usd_per_hour(
        rental_usd_per_hour=UsdPerHour(2.5), utilisation_ratio=Ratio(0.6), sla_bonus_ratio=1.05
    ) == pytest.approx(1.575)


def test_energy_cost_includes_pue() -> None:
    """3.5 kW * 1.1 * 0.03 USD/kWh = 0.1155 USD/h."""
    assert economics.energy_cost_usd_per_hour(
        power_watts=Watts(3_500.0), pue=1.1, price_usd_per_kwh=UsdPerKwh(0.03)
    ) == pytest.approx(0.1155)


def test_a_negative_price_is_income() -> None:
    """At -20 USD/MWh an S21 is paid 0.077 USD/h to run."""
    assert economics.energy_cost_usd_per_hour(
        power_watts=Watts(3_500.0), pue=1.1, price_usd_per_kwh=UsdPerKwh(-0.02)
    ) == pytest.approx(-0.077)


def test_the_demand_adder_is_paid_on_the_site_s_draw() -> None:
    """3.5 kW * 1.1 * 0.008 USD/kWh = 0.0308 USD/h."""
    assert economics.demand_cost_usd_per_hour(
        power_watts=Watts(3_500.0), pue=1.1, adder_usd_per_kwh=UsdPerKwh(0.008)
    ) == pytest.approx(0.0308)


@pytest.mark.parametrize("power_watts", [-1.0, math.nan])
def test_power_must_be_a_number_from_0(power_watts: float) -> None:
    """A negative or missing draw is refused, never turned into profit."""
    with pytest.raises(ValueError, match="power_watts must be 0 or more"):
        economics.site_kilowatts(power_watts=Watts(power_watts), pue=1.1)


def test_switch_cost_is_lost_revenue_wear_and_reload() -> None:
    """300 s without 0.40 USD/h cost 0.03333, plus 0.02 wear and 0.001 reload: 0.05433 USD."""
    assert economics.switch_cost_usd(
        from_revenue=UsdPerHour(0.0),
        to_revenue=UsdPerHour(0.4),
        enter_ms=DurationMs(300_000),
        enter_wear_usd=Usd(0.02),
        enter_reload_usd=Usd(0.001),
    ) == pytest.approx(0.0543333, rel=1e-5)


def test_a_switch_is_never_free() -> None:
    """Even between modes that earn nothing and wear nothing."""
    cost = economics.switch_cost_usd(
        from_revenue=UsdPerHour(0.0),
        to_revenue=UsdPerHour(0.0),
        enter_ms=DurationMs(1),
        enter_wear_usd=Usd(0.0),
        enter_reload_usd=Usd(0.0),
    )
    assert cost > 0.0


def test_confidence_is_the_normal_distribution_s() -> None:
    """A gain of one standard deviation at the horizon holds with Phi(1) = 0.8413; of two with 0.9772."""
    for gain, expected in ((1.0, 0.841345), (2.0, 0.977250)):
        assert economics.confidence(gain=UsdPerHour(gain), sigma_usd_per_hour=2.0, horizon_hours=0.25) == pytest.approx(
            expected, abs=1e-6
        )


def test_confidence_without_gain_is_a_toss_up_and_without_volatility_sure() -> None:
    """The two ends of the scale."""
    assert economics.confidence(gain=UsdPerHour(0.0), sigma_usd_per_hour=1.0, horizon_hours=math.inf) == 0.5
    assert economics.confidence(gain=UsdPerHour(0.1), sigma_usd_per_hour=0.0, horizon_hours=1.0) == 1.0


def test_break_even_is_where_two_modes_earn_the_same() -> None:
    """0.385 USD/h more for 3.85 kW more breaks even at 100 USD/MWh, at 92 with an adder of 8."""
    difference, draw = UsdPerHour(0.385), 3.85
    assert economics.break_even_usd_per_mwh(
        net_difference=difference, kilowatt_difference=draw, adder_usd_per_kwh=UsdPerKwh(0.0)
    ) == pytest.approx(100.0)
    assert economics.break_even_usd_per_mwh(
        net_difference=difference, kilowatt_difference=draw, adder_usd_per_kwh=UsdPerKwh(0.008)
    ) == pytest.approx(92.0)


def test_no_energy_price_separates_modes_of_equal_draw() -> None:
    """Then there is no break-even."""
    assert (
        economics.break_even_usd_per_mwh(
            net_difference=UsdPerHour(1.0), kilowatt_difference=0.0, adder_usd_per_kwh=UsdPerKwh(0.0)
        )
        is None
    )


def test_months_are_those_of_the_calendar() -> None:
    """Every day of 1970 to 2099, leap years and the year 2000 among them, against the standard library."""
    first = date(1970, 1, 1)
    days = (date(2100, 1, 1) - first).days
    assert [economics.month_of(day) for day in range(days)] == [
        (first + timedelta(days=day)).month for day in range(days)
    ]


@pytest.mark.parametrize(
    ("moment", "adder"),
    [
        ("2023-08-20T19:59:00+00:00", 0.01),
        ("2023-08-20T20:00:00+00:00", 0.26),
        ("2023-08-20T22:59:59+00:00", 0.26),
        ("2023-08-20T23:00:00+00:00", 0.01),
        ("2023-05-31T21:00:00+00:00", 0.01),
        ("2023-10-01T04:59:00+00:00", 0.01),
    ],
)
def test_demand_costs_more_in_its_window(moment: str, adder: float) -> None:
    """15 to 18 in Texas' summer time is 20 to 23 UTC; end and other months are outside."""
    window = DemandWindow(
        months=(6, 7, 8, 9),
        start_hour=15.0,
        end_hour=18.0,
        utc_offset_hours=-5.0,
        adder_usd_per_kwh=UsdPerKwh(0.25),
    )
    site = replace(DEMO_FLEET.facilities[0], demand_adder_usd_per_kwh=UsdPerKwh(0.01), demand_windows=(window,))
    at_ms = int(datetime.fromisoformat(moment).timestamp() * 1_000)
    assert economics.demand_adder_usd_per_kwh(site, at_ms=at_ms) == pytest.approx(adder)


def test_a_demand_window_moves_the_break_even_and_the_mode() -> None:
    """At 30 USD/MWh an S21 mines; with 0.25 USD/kWh on top it sleeps, and the score says which term did it."""
    window = DemandWindow(
        months=tuple(range(1, 13)),
        start_hour=0.0,
        end_hour=24.0,
        utc_offset_hours=0.0,
        adder_usd_per_kwh=UsdPerKwh(0.25),
    )
    facility = replace(DEMO_FLEET.facilities[0], demand_windows=(window,))
    fleet = replace(DEMO_FLEET, facilities=(facility, *DEMO_FLEET.facilities[1:]))
    plain, dear = (
        Plane(policy=policy_named("never"), fleet=known, facility_id=facility.facility_id)
        for known in (DEMO_FLEET, fleet)
    )
    for plane in (plain, dear):
        plane.see_prices()
        plane.take(
            a_price(PriceSeries.ENERGY_REAL_TIME, facility.energy_market, 30.0, facility_id=facility.facility_id)
        )
    scored = [
        next(each for each in plane.recommendations[-1].classes if each.device_class == "s21")
        for plane in (plain, dear)
    ]
    assert [each.best_mode for each in scored] == [DeviceMode.MINING, DeviceMode.SLEEP]
    rows = [next(row for row in each.scores if row.mode is DeviceMode.MINING) for each in scored]
    assert rows[1].demand_cost_usd_per_hour - rows[0].demand_cost_usd_per_hour == pytest.approx(3.5 * 1.1 * 0.25)
