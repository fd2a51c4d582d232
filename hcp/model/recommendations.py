"""What the optimizer says about a site: the score of every mode of every device class, with all its terms."""

from dataclasses import dataclass
from typing import Annotated

from hcp.model.devices import DeviceMode
from hcp.model.fields import Field
from hcp.model.types import UUID_PATTERN, DeviceClassId, FacilityId, ObservedAtMs
from hcp.model.units import MS_PER_HOUR, DurationMs, Usd, UsdPerHour, Watts

RATE_MAX = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeScore:
    """What one device would earn in one mode, and what leaving that mode for the best one means."""

    mode: Annotated[DeviceMode, Field("The mode scored.")]
    revenue_usd_per_hour: Annotated[
        UsdPerHour, Field("What one device earns.", unit="USD/h", minimum=0.0, maximum=RATE_MAX)
    ]
    energy_cost_usd_per_hour: Annotated[
        UsdPerHour,
        Field(
            "Energy of one device, PUE included; negative when the grid pays.",
            unit="USD/h",
            minimum=-RATE_MAX,
            maximum=RATE_MAX,
        ),
    ]
    demand_cost_usd_per_hour: Annotated[
        UsdPerHour,
        Field("Demand adder on that energy.", unit="USD/h", minimum=0.0, maximum=RATE_MAX),
    ]
    wear_usd_per_hour: Annotated[
        UsdPerHour, Field("Depreciation of running.", unit="USD/h", minimum=0.0, maximum=RATE_MAX)
    ]
    profit_usd_per_hour: Annotated[
        UsdPerHour,
        Field("Revenue less the three costs.", unit="USD/h", minimum=-RATE_MAX, maximum=RATE_MAX),
    ]
    power_watts: Annotated[Watts, Field("Draw at the wall, without PUE.", unit="W", minimum=0.0, maximum=1_000_000.0)]
    gain_usd_per_hour: Annotated[
        UsdPerHour,
        Field(
            "What one device gains by going to the best mode; 0 for the best.",
            unit="USD/h",
            minimum=0.0,
            maximum=RATE_MAX,
        ),
    ]
    switch_cost_usd: Annotated[
        Usd, Field("Cost of that switch; 0 for the best.", unit="USD", minimum=0.0, maximum=RATE_MAX)
    ]
    payback_ms: Annotated[
        DurationMs | None,
        Field(
            "Time until the gain has paid the switch; null when there is no gain.",
            unit="ms",
            minimum=0,
            maximum=2**53,
        ),
    ]
    confidence: Annotated[
        float,
        Field(
            "Probability, under recent volatility, that the best mode still beats this one at payback.",
            unit="1",
            minimum=0.0,
            maximum=1.0,
        ),
    ]
    break_even_usd_per_mwh: Annotated[
        float | None,
        Field(
            "Energy price at which this mode and the best one earn the same; null when the price moves neither.",
            unit="USD/MWh",
            minimum=-1e15,
            maximum=1e15,
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRecommendation:
    """One device class at the site: the best mode, the runner-up and all scores."""

    device_class: DeviceClassId
    best_mode: Annotated[DeviceMode, Field("Earns most now.")]
    runner_up_mode: Annotated[DeviceMode, Field("Earns most after the best.")]
    delta_usd_per_hour: Annotated[
        UsdPerHour, Field("Best less runner-up, one device.", unit="USD/h", minimum=0.0, maximum=RATE_MAX)
    ]
    confidence: Annotated[float, Field("Confidence of the runner-up's row.", unit="1", minimum=0.0, maximum=1.0)]
    scores: Annotated[tuple[ModeScore, ...], Field("One per mode, in the order of fleet.toml.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeDevices:
    """How many devices of a class are in one mode."""

    mode: Annotated[DeviceMode, Field("The mode.")]
    movable_count: Annotated[
        int, Field("Active, held by no customer, telemetry fresh.", unit="1", minimum=0, maximum=1_000_000)
    ]
    switching_count: Annotated[int, Field("Under way to another mode.", unit="1", minimum=0, maximum=1_000_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassDevices:
    """The devices of one class at the site, as resource.state had them."""

    device_class: DeviceClassId
    modes: Annotated[tuple[ModeDevices, ...], Field("One per mode that has devices, sorted by mode.")]
    stale_count: Annotated[
        int, Field("Devices left out because their telemetry is too old.", unit="1", minimum=0, maximum=1_000_000)
    ]
    epoch_sum: Annotated[
        int,
        Field(
            "Sum of the fencing epochs of the class's devices: it has risen once a command has been acted on.",
            unit="1",
            minimum=0,
            maximum=2**53,
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSnapshot:
    """The prices a recommendation was made from; null where none has been seen yet."""

    energy_price_usd_per_mwh: Annotated[
        float | None, Field("Real-time energy price.", unit="USD/MWh", minimum=-5_000.0, maximum=100_000.0)
    ]
    energy_observed_at_ms: Annotated[
        int | None, Field("Event time of that price.", unit="ms since epoch", minimum=0, maximum=2**53)
    ]
    btc_price_usd: Annotated[float | None, Field("Bitcoin price.", unit="USD/BTC", minimum=0.0, maximum=100_000_000.0)]
    btc_observed_at_ms: Annotated[
        int | None, Field("Event time of that price.", unit="ms since epoch", minimum=0, maximum=2**53)
    ]
    difficulty: Annotated[float | None, Field("Network difficulty.", unit="1", minimum=1.0, maximum=1e18)]
    subsidy_btc: Annotated[float | None, Field("Block subsidy.", unit="BTC/block", minimum=0.0, maximum=50.0)]
    fees_btc_per_block: Annotated[
        float | None, Field("Mean fees of a block.", unit="BTC/block", minimum=0.0, maximum=500.0)
    ]
    hash_price_usd_per_th_hour: Annotated[
        float | None,
        Field("SHA-256 hash price from these.", unit="USD/(TH/s*h)", minimum=0.0, maximum=RATE_MAX),
    ]
    energy_interval_ms: Annotated[
        int | None,
        Field(
            "Length of the interval that the energy price is for; it ended at `energy_observed_at_ms`.",
            unit="ms",
            minimum=0,
            maximum=366 * 24 * MS_PER_HOUR,
        ),
    ] = None
    implausible: Annotated[
        str,
        Field(
            "Prices held back because they are not believed: what each must be and was; empty when there is none.",
            pattern=r"[\s\S]{0,1000}",
        ),
    ] = ""
    day_ahead_0h_usd_per_mwh: Annotated[
        float | None,
        Field(
            "Day-ahead price of the hour in which the interval of the energy price began; null if not published.",
            unit="USD/MWh",
            minimum=-5_000.0,
            maximum=100_000.0,
        ),
    ] = None
    day_ahead_1h_usd_per_mwh: Annotated[
        float | None,
        Field("Of the hour after.", unit="USD/MWh", minimum=-5_000.0, maximum=100_000.0),
    ] = None
    day_ahead_2h_usd_per_mwh: Annotated[
        float | None,
        Field("Of the second hour after.", unit="USD/MWh", minimum=-5_000.0, maximum=100_000.0),
    ] = None
    day_ahead_3h_usd_per_mwh: Annotated[
        float | None,
        Field("Of the third hour after.", unit="USD/MWh", minimum=-5_000.0, maximum=100_000.0),
    ] = None
    day_ahead_4h_usd_per_mwh: Annotated[
        float | None,
        Field("Of the fourth hour after.", unit="USD/MWh", minimum=-5_000.0, maximum=100_000.0),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """All device classes of one facility, re-scored because of one market record."""

    recommendation_id: Annotated[str, Field("Derived from the market record.", pattern=UUID_PATTERN)]
    facility_id: FacilityId
    observed_at_ms: ObservedAtMs
    market: Annotated[MarketSnapshot, Field("The prices used.")]
    classes: Annotated[
        tuple[ClassRecommendation, ...],
        Field("One per device class whose prices are all known, sorted by class."),
    ]
    cause_topic: Annotated[str, Field("Topic of the market record.", pattern=r"[a-z.]{1,64}")]
    cause_partition: Annotated[int, Field("Its partition.", unit="1", minimum=0, maximum=2**31)]
    cause_offset: Annotated[int, Field("Its offset.", unit="1", minimum=0, maximum=2**53)]
    cause_timestamp_ms: Annotated[
        int,
        Field(
            "Broker timestamp of the market record (wall clock), for latency.",
            unit="ms since epoch",
            minimum=0,
            maximum=2**53,
        ),
    ]
    devices: Annotated[
        tuple[ClassDevices, ...],
        Field(
            "The site's devices when this was made, sorted by class: a decision depends on this record and on those "
            "before it, never on how topics overtook each other."
        ),
    ] = ()
    resource_state_offset: Annotated[
        int | None,
        Field(
            "Offset of the last resource.state record counted in `devices`; null before the first.",
            unit="1",
            minimum=0,
            maximum=2**53,
        ),
    ] = None
