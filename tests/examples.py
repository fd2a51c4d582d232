"""One valid example of every record, the seed of golden bytes, codec tests and the sinks' exam."""

from hcp.model.commands import (
    ControllerCommand,
    ControllerResult,
    DecisionAction,
    DecisionReason,
    DeviceOutcome,
    OrchestratorCommand,
)
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.ids import id_from_content
from hcp.model.ledger import Alert, AlertSeverity, AlertType, AuditEvent, BillingUsage
from hcp.model.markets import MarketPrice, PriceSeries, PriceUnit
from hcp.model.orders import OperatorOrder, OrderAction
from hcp.model.outlook import Outlook
from hcp.model.recommendations import (
    ClassDevices,
    ClassRecommendation,
    MarketSnapshot,
    ModeDevices,
    ModeScore,
    Recommendation,
)
from hcp.model.regret import Regret
from hcp.model.rejections import DeadLetter, RejectReason
from hcp.model.resources import ResourceState, StateReporter, state_key
from hcp.model.telemetry import AsicTelemetry, GpuTelemetry
from hcp.model.units import DurationMs, EpochMs, Usd, UsdPerHour, Watts
from hcp.model.workloads import AllocationAction, AllocationRequest, WorkloadEvent, WorkloadEventType, WorkloadType

AT = EpochMs(1_692_493_200_000)
"""2023-08-20T01:00:00Z."""
SHARD = "tx-north.asic-1/00"
WORKLOAD, CUSTOMER = id_from_content("workload"), id_from_content("customer")


def _score(mode: DeviceMode, *, profit: float, gain: float) -> ModeScore:
    return ModeScore(
        mode=mode,
        revenue_usd_per_hour=UsdPerHour(profit + 0.5),
        energy_cost_usd_per_hour=UsdPerHour(0.25),
        demand_cost_usd_per_hour=UsdPerHour(0.125),
        wear_usd_per_hour=UsdPerHour(0.125),
        profit_usd_per_hour=UsdPerHour(profit),
        power_watts=Watts(3_500.0),
        gain_usd_per_hour=UsdPerHour(gain),
        switch_cost_usd=Usd(0.05 if gain else 0.0),
        payback_ms=DurationMs(360_000) if gain else None,
        confidence=0.75 if gain else 1.0,
        break_even_usd_per_mwh=71.5 if gain else None,
    )


PRICE = MarketPrice(
    facility_id="tx-north",
    series=PriceSeries.ENERGY_REAL_TIME,
    instrument="HB_WEST",
    value=-12.5,
    unit=PriceUnit.USD_PER_MWH,
    interval_start_ms=EpochMs(AT - 900_000),
    interval_ms=900_000,
    observed_at_ms=AT,
    source="recorded:ercot",
)
GPU_TELEMETRY = GpuTelemetry(
    facility_id="tx-north",
    cluster_id="tx-north.gpu-1",
    shard_id="tx-north.gpu-1/00",
    device_class="h100",
    observed_at_ms=AT,
    device_indexes=(0, 1),
    modes=(DeviceMode.AI_INFERENCE, DeviceMode.MINING),
    power_watts=(650.0, None),
    temperature_celsius=(61.5, None),
    memory_temperature_celsius=(70.0, None),
    utilisation_ratio=(0.9, None),
    hash_rate_mh_per_s=(None, 110.0),
    tokens_per_s=(2_500.0, None),
)
ASIC_TELEMETRY = AsicTelemetry(
    facility_id="tx-north",
    cluster_id="tx-north.asic-1",
    shard_id=SHARD,
    device_class="s21",
    observed_at_ms=AT,
    device_indexes=(0, 1),
    modes=(DeviceMode.MINING, DeviceMode.SLEEP),
    power_watts=(3_480.0, 24.0),
    chip_temperature_celsius=(68.0, None),
    inlet_temperature_celsius=(31.0, 31.0),
    hash_rate_th_per_s=(199.5, None),
    fan_speed_rpm=(5_200.0, None),
    reject_ratio=(0.002, None),
)
EVENT = WorkloadEvent(
    event_id=id_from_content("event"),
    workload_id=WORKLOAD,
    customer_id=CUSTOMER,
    event_type=WorkloadEventType.CREATED,
    workload_type=WorkloadType.INFERENCE_INTERACTIVE,
    priority=5,
    device_class="h100",
    device_count=2,
    facility_id=None,
    reason="",
    observed_at_ms=AT,
    run_number=1,
    queue_position=3,
    device_ids="tx-north.gpu-1/00/000 tx-north.gpu-1/00/001",
    price_usd_micros_per_device_hour=2_000_000,
    price_usd_micros_per_device_hour_max=2_500_000,
    run_seconds_max=3_600,
    checkpoint_seconds=300,
)
REQUEST = AllocationRequest(
    allocation_id=id_from_content("allocation"),
    workload_id=WORKLOAD,
    customer_id=CUSTOMER,
    facility_id="tx-north",
    device_class="h100",
    device_count=2,
    priority=5,
    is_preemptible=True,
    observed_at_ms=AT,
    action=AllocationAction.RELEASE,
    workload_type=WorkloadType.INFERENCE_INTERACTIVE,
    price_usd_micros_per_device_hour=2_000_000,
    run_seconds_max=3_600,
    checkpoint_seconds=300,
)
RECOMMENDATION = Recommendation(
    recommendation_id=id_from_content("recommendation"),
    facility_id="tx-north",
    observed_at_ms=AT,
    market=MarketSnapshot(
        energy_price_usd_per_mwh=-12.5,
        energy_observed_at_ms=AT,
        btc_price_usd=26_100.0,
        btc_observed_at_ms=AT,
        difficulty=52_391_178_981_379.0,
        subsidy_btc=6.25,
        fees_btc_per_block=0.2,
        hash_price_usd_per_th_hour=0.0027,
        day_ahead_0h_usd_per_mwh=-3.25,
        day_ahead_1h_usd_per_mwh=21.5,
    ),
    classes=(
        ClassRecommendation(
            device_class="s21",
            best_mode=DeviceMode.MINING,
            runner_up_mode=DeviceMode.SLEEP,
            delta_usd_per_hour=UsdPerHour(0.5),
            confidence=0.75,
            scores=(
                _score(DeviceMode.MINING, profit=0.5, gain=0.0),
                _score(DeviceMode.SLEEP, profit=0.0, gain=0.5),
            ),
        ),
    ),
    cause_topic="market.price",
    cause_partition=3,
    cause_offset=42,
    cause_timestamp_ms=AT,
    devices=(
        ClassDevices(
            device_class="s21",
            modes=(
                ModeDevices(mode=DeviceMode.MINING, movable_count=10, switching_count=1),
                ModeDevices(mode=DeviceMode.SLEEP, movable_count=2, switching_count=0),
            ),
            stale_count=3,
            epoch_sum=5,
        ),
    ),
    resource_state_offset=17,
)
REGRET = Regret(
    regret_id=id_from_content("regret"),
    facility_id="tx-north",
    device_class="s21",
    hour_start_ms=EpochMs(AT - 3_600_000),
    since_ms=EpochMs(AT - 7_200_000),
    covered_ms=3_600_000,
    device_count=12,
    counted_ratio=0.75,
    realised_usd_micros=3_000_000,
    switch_cost_usd_micros=240_000,
    realised_so_far_usd_micros=5_500_000,
    hindsight_so_far_usd_micros=6_250_000,
    best_fixed_so_far_usd_micros=-1_500_000,
    best_fixed_mode=DeviceMode.SLEEP,
    observed_at_ms=AT,
)
DECISION = OrchestratorCommand(
    command_id=id_from_content("decision"),
    facility_id="tx-north",
    device_class="s21",
    action=DecisionAction.SWITCH,
    reason=DecisionReason.GAIN_PAYS,
    policy="threshold",
    from_mode=DeviceMode.SLEEP,
    to_mode=DeviceMode.MINING,
    device_count=12,
    best_mode=DeviceMode.MINING,
    runner_up_mode=DeviceMode.SLEEP,
    gain_usd_per_hour=UsdPerHour(0.5),
    switch_cost_usd=Usd(0.05),
    threshold_usd_per_hour=UsdPerHour(0.1),
    confidence=0.75,
    flip_usd_per_mwh=71.5,
    observed_at_ms=AT,
    recommendation_id=RECOMMENDATION.recommendation_id,
    cause_topic="market.price",
    cause_partition=3,
    cause_offset=42,
    cause_timestamp_ms=AT,
    advantage_usd=0.5,
    advantage_threshold_usd=0.375,
)
COMMAND = ControllerCommand(
    command_id=id_from_content("command"),
    decision_id=DECISION.command_id,
    facility_id="tx-north",
    cluster_id="tx-north.asic-1",
    shard_id=SHARD,
    device_class="s21",
    from_mode=DeviceMode.SLEEP,
    to_mode=DeviceMode.MINING,
    attempt=1,
    device_indexes=(0, 1),
    epochs=(1, 1),
    observed_at_ms=AT,
)
RESULT = ControllerResult(
    command_id=COMMAND.command_id,
    decision_id=DECISION.command_id,
    facility_id="tx-north",
    cluster_id="tx-north.asic-1",
    shard_id=SHARD,
    device_class="s21",
    from_mode=DeviceMode.SLEEP,
    to_mode=DeviceMode.MINING,
    attempt=1,
    controller_id="controller-0",
    device_indexes=(0, 1),
    epochs=(1, 1),
    outcomes=(DeviceOutcome.COMMITTED, DeviceOutcome.ROLLED_BACK),
    modes=(DeviceMode.MINING, DeviceMode.SLEEP),
    details=("", "verify must end in 150 ms, was 151 ms"),
    begin_ms=(1.0, 1.0),
    validate_ms=(0.25, 0.25),
    pause_ms=(2.0, 2.0),
    save_ms=(1.0, 1.0),
    activate_ms=(10.0, 10.0),
    verify_ms=(20.0, 151.0),
    commit_ms=(1.0, None),
    total_ms=(35.25, 165.25),
    settled_ms=(5_000.0, None),
    started_at_ms=AT,
    finished_at_ms=EpochMs(AT + 165),
    observed_at_ms=AT,
)
STATE = ResourceState(
    state_key=state_key(shard_id=SHARD, reported_by=StateReporter.RESOURCES),
    facility_id="tx-north",
    cluster_id="tx-north.asic-1",
    shard_id=SHARD,
    device_class="s21",
    reported_by=StateReporter.RESOURCES,
    device_indexes=(0, 1),
    modes=(DeviceMode.MINING, DeviceMode.SLEEP),
    states=(DeviceState.ACTIVE, DeviceState.QUARANTINED),
    epochs=(1, 1),
    owners=("", ""),
    observed_at_ms=AT,
)
USAGE = BillingUsage(
    usage_id=id_from_content("usage"),
    workload_id=WORKLOAD,
    customer_id=CUSTOMER,
    facility_id="tx-north",
    device_class="h100",
    interval_start_ms=EpochMs(AT - 60_000),
    interval_end_ms=AT,
    device_seconds=120,
    price_usd_micros_per_device_hour=2_390_000,
    amount_usd_micros=79_667,
    observed_at_ms=AT,
)
ALERT = Alert(
    alert_id=id_from_content("alert"),
    facility_id="tx-north",
    severity=AlertSeverity.WARNING,
    alert_type=AlertType.DEVICE_OVERHEATED,
    subject=f"{SHARD}/001",
    message="chip_temperature_celsius must be at most 95, was 101.5",
    observed_at_ms=AT,
)
OUTLOOK = Outlook(
    outlook_id=id_from_content("outlook"),
    facility_id="tx-north",
    device_class="h100",
    from_mode=DeviceMode.AI_INFERENCE,
    to_mode=DeviceMode.MINING,
    probability=0.3125,
    horizon_ms=DurationMs(1_800_000),
    recommendation_id=id_from_content("recommendation"),
    observed_at_ms=AT,
)
ORDER = OperatorOrder(
    order_id=id_from_content("order"),
    facility_id="tx-north",
    cluster_id="tx-north.asic-1",
    shard_id=SHARD,
    device_class="s21",
    action=OrderAction.LOCK_OUT,
    to_mode=None,
    device_indexes=(0, 7),
    operator="j.diaz",
    origin="noc-3.example",
    why="fan 2 is being changed",
    observed_at_ms=AT,
)
AUDIT = AuditEvent(
    audit_id=id_from_content("audit"),
    actor="controller-0",
    action="device_quarantined",
    subject=f"{SHARD}/001",
    origin="127.0.0.1",
    before='{"state": "active"}',
    after='{"state": "quarantined"}',
    observed_at_ms=AT,
)
LETTER = DeadLetter(
    source_topic="market.price",
    source_partition=3,
    source_offset=43,
    source_timestamp_ms=AT,
    reason=RejectReason.NOT_A_RECORD,
    detail="a record must begin with c301, was 7b7d",
    rejected_by="agent.optimizer",
    record_key=b"tx-north",
    record_value=b"{}",
)

EXAMPLES: tuple[object, ...] = (
    PRICE,
    GPU_TELEMETRY,
    ASIC_TELEMETRY,
    EVENT,
    REQUEST,
    RECOMMENDATION,
    REGRET,
    DECISION,
    COMMAND,
    RESULT,
    OUTLOOK,
    ORDER,
    STATE,
    USAGE,
    ALERT,
    AUDIT,
    LETTER,
)
