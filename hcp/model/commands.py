"""Commands and their results: what the orchestrator decides, what controllers are told and what they answer."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from hcp.model.devices import DeviceMode
from hcp.model.fields import Field
from hcp.model.types import (
    UUID_PATTERN,
    ClusterId,
    DeviceClassId,
    DeviceIndexes,
    Epochs,
    FacilityId,
    ObservedAtMs,
    ShardId,
    WallMs,
)
from hcp.model.units import Usd, UsdPerHour


class DecisionAction(StrEnum):
    """Whether a decision moves devices."""

    SWITCH = "switch"
    HOLD = "hold"


class DecisionReason(StrEnum):
    """Why a decision is what it is; the vocabulary analysts group by."""

    GAIN_PAYS = "gain_pays"
    ALREADY_BEST = "already_best"
    GAIN_TOO_SMALL = "gain_too_small"
    CONFIDENCE_TOO_LOW = "confidence_too_low"
    DWELL = "dwell"
    MINIMUM_ON_TIME = "minimum_on_time"
    MINIMUM_OFF_TIME = "minimum_off_time"
    SWITCH_PENDING = "switch_pending"
    PRICE_STALE = "price_stale"
    TELEMETRY_STALE = "telemetry_stale"
    NO_DEVICES = "no_devices"
    POLICY_NEVER = "policy_never"
    POWER_CAP = "power_cap"
    RAMP_LIMIT = "ramp_limit"
    SWITCHES_PER_HOUR = "switches_per_hour"
    WEAR_BUDGET = "wear_budget"
    LOSS_FLOOR = "loss_floor"
    PRICE_IMPLAUSIBLE = "price_implausible"
    SAFE_STATE = "safe_state"


class DeviceOutcome(StrEnum):
    """How one device's switch ended; every value but `committed` says why it did not switch."""

    COMMITTED = "committed"
    ALREADY_THERE = "already_there"
    DUPLICATE = "duplicate"
    FENCED = "fenced"
    STALE_TELEMETRY = "stale_telemetry"
    UNSAFE = "unsafe"
    ROLLED_BACK = "rolled_back"
    QUARANTINED = "quarantined"
    UNKNOWN_DEVICE = "unknown_device"
    EXPIRED = "expired"
    HELD = "held"
    LIMITED = "limited"


RATE_MAX = 1e9
_PHASE_UNIT = "ms"
_PHASE_MAX = 600_000.0

PhaseColumn = Annotated[
    tuple[float | None, ...],
    Field(
        "Milliseconds each device spent in this phase; null when it was not reached.",
        unit=_PHASE_UNIT,
        minimum=0.0,
        maximum=_PHASE_MAX,
        column=True,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestratorCommand:
    """One decision for one device class of a site: switch, or hold when the reason for holding changed."""

    command_id: Annotated[str, Field("Derived from recommendation and class.", pattern=UUID_PATTERN)]
    facility_id: FacilityId
    device_class: DeviceClassId
    action: Annotated[DecisionAction, Field("Move devices, or not.")]
    reason: Annotated[DecisionReason, Field("Why.")]
    policy: Annotated[str, Field("Policy that decided.", pattern=r"[a-z][a-z0-9_-]{0,62}")]
    from_mode: Annotated[DeviceMode, Field("Mode the class is in.")]
    to_mode: Annotated[DeviceMode, Field("Mode wanted; the same as from_mode for a hold.")]
    device_count: Annotated[
        int, Field("Devices to move at most; 0 for a hold.", unit="1", minimum=0, maximum=1_000_000)
    ]
    best_mode: Annotated[DeviceMode, Field("Best mode at that time.")]
    runner_up_mode: Annotated[DeviceMode, Field("Best after that.")]
    gain_usd_per_hour: Annotated[
        UsdPerHour, Field("Gain of one device by the best mode.", unit="USD/h", minimum=0.0, maximum=RATE_MAX)
    ]
    switch_cost_usd: Annotated[Usd, Field("Cost of switching one device.", unit="USD", minimum=0.0, maximum=RATE_MAX)]
    threshold_usd_per_hour: Annotated[
        UsdPerHour,
        Field("Gain above which the policy switches.", unit="USD/h", minimum=0.0, maximum=1e15),
    ]
    confidence: Annotated[float, Field("That the order holds until payback.", unit="1", minimum=0.0, maximum=1.0)]
    flip_usd_per_mwh: Annotated[
        float | None,
        Field(
            "Energy price at which the decision would flip; null when none would.",
            unit="USD/MWh",
            minimum=-1e15,
            maximum=1e15,
        ),
    ]
    observed_at_ms: ObservedAtMs
    recommendation_id: Annotated[str, Field("The recommendation decided on.", pattern=UUID_PATTERN)]
    cause_topic: Annotated[str, Field("Topic of the market record behind it.", pattern=r"[a-z.]{1,64}")]
    cause_partition: Annotated[int, Field("Its partition.", unit="1", minimum=0, maximum=2**31)]
    cause_offset: Annotated[int, Field("Its offset.", unit="1", minimum=0, maximum=2**53)]
    cause_timestamp_ms: Annotated[
        int,
        Field(
            "Broker timestamp of that record (wall clock), for latency.",
            unit="ms since epoch",
            minimum=0,
            maximum=2**53,
        ),
    ]
    advantage_usd: Annotated[
        float | None,
        Field(
            "How much better one device does in the mode weighed, by the policy's own measure, the switch not yet "
            "paid; null where the policy weighs `gain_usd_per_hour`.",
            unit="USD",
            minimum=-1e15,
            maximum=1e15,
        ),
    ] = None
    advantage_threshold_usd: Annotated[
        float | None,
        Field("What that must reach for a switch; null with it.", unit="USD", minimum=-1e15, maximum=1e15),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerCommand:
    """Switch some devices of one shard; columnar."""

    command_id: Annotated[str, Field("Derived from decision, shard and attempt.", pattern=UUID_PATTERN)]
    decision_id: Annotated[str, Field("command_id of the orchestrator's decision.", pattern=UUID_PATTERN)]
    facility_id: FacilityId
    cluster_id: ClusterId
    shard_id: ShardId
    device_class: DeviceClassId
    from_mode: Annotated[DeviceMode, Field("Mode the devices are believed to be in.")]
    to_mode: Annotated[DeviceMode, Field("Mode wanted.")]
    attempt: Annotated[int, Field("Counted from 1.", unit="1", minimum=1, maximum=100)]
    device_indexes: DeviceIndexes
    epochs: Epochs
    observed_at_ms: ObservedAtMs


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerResult:
    """What became of a controller command, device by device; columnar."""

    command_id: Annotated[str, Field("The controller command answered.", pattern=UUID_PATTERN)]
    decision_id: Annotated[str, Field("command_id of the orchestrator's decision.", pattern=UUID_PATTERN)]
    facility_id: FacilityId
    cluster_id: ClusterId
    shard_id: ShardId
    device_class: DeviceClassId
    from_mode: Annotated[DeviceMode, Field("Mode commanded from.")]
    to_mode: Annotated[DeviceMode, Field("Mode commanded to.")]
    attempt: Annotated[int, Field("Of the command.", unit="1", minimum=1, maximum=100)]
    controller_id: Annotated[str, Field("Process that did it.", pattern=r"[A-Za-z0-9_.-]{1,128}")]
    device_indexes: DeviceIndexes
    epochs: Epochs
    outcomes: Annotated[tuple[DeviceOutcome, ...], Field("How each device ended.", column=True)]
    modes: Annotated[tuple[DeviceMode, ...], Field("Mode each device was verified in at the end.", column=True)]
    details: Annotated[tuple[str, ...], Field("What went wrong in words; empty when nothing did.", column=True)]
    begin_ms: PhaseColumn
    validate_ms: PhaseColumn
    pause_ms: PhaseColumn
    save_ms: PhaseColumn
    activate_ms: PhaseColumn
    verify_ms: PhaseColumn
    commit_ms: PhaseColumn
    total_ms: PhaseColumn
    settled_ms: Annotated[
        tuple[float | None, ...],
        Field(
            "From the command until full power or none, reported apart; null when not measured.",
            unit="ms",
            minimum=0.0,
            maximum=_PHASE_MAX,
            column=True,
        ),
    ]
    started_at_ms: WallMs
    finished_at_ms: WallMs
    observed_at_ms: ObservedAtMs
