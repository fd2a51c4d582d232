"""What the API takes and gives, with ranges and examples; unknown fields are refused on the way in."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gateway.principals import Kind, Role
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.types import NAME_PATTERN
from hcp.model.workloads import WorkloadStatus, WorkloadType

DEVICES_MAX: Final = 512
RUN_SECONDS_MAX: Final = 30 * 24 * 3_600
PRICE_USD_MICROS_MAX: Final = 1_000_000_000
NAME: Final = f"^{NAME_PATTERN}$"
TEXT: Final = r"^[^\x00-\x1f\x7f|\ud800-\udfff]*$"
"""No control characters and no `|`, which parts ids."""

Name = Annotated[str, Meta(pattern=NAME, max_length=63)]
Priority = Annotated[int, Meta(ge=1, le=10, description="1 is least, 10 most urgent.", examples=[5])]
Email = Annotated[
    str, Meta(pattern=r"^[^\s@\x00|]{1,100}@[^\s@\x00|]{1,99}$", max_length=200, examples=["a@example.com"])
]
Secret = Annotated[str, Meta(min_length=1, max_length=200)]


class Requirements(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a workload needs to run."""

    device_class: Annotated[Name, Meta(description="As in GET /resources.", examples=["h100"])]
    device_count: Annotated[int, Meta(ge=1, le=DEVICES_MAX, description="Devices at once.", examples=[1])] = 1
    facility_id: Annotated[Name | None, Meta(description="Where its data must stay; null: any site.")] = None
    run_seconds_max: Annotated[
        int, Meta(ge=1, le=RUN_SECONDS_MAX, description="Longest run, which reserves its cost.", examples=[3600])
    ] = 3_600
    checkpoint_seconds: (
        Annotated[int, Meta(ge=1, le=RUN_SECONDS_MAX, description="How often its work is saved; null: never.")] | None
    ) = None
    price_usd_micros_per_device_hour_max: Annotated[
        int,
        Meta(ge=1, le=PRICE_USD_MICROS_MAX, description="Dearest price taken, micro-dollars.", examples=[4_000_000]),
    ]


class Submission(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A workload to run."""

    workload_type: Annotated[WorkloadType, Meta(examples=["inference_real_time"])]
    priority: Priority = 5
    name: Annotated[str, Meta(pattern=TEXT, max_length=100, description="For people.", examples=["chat"])] = ""
    requirements: Requirements


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A workload and where it is in its life."""

    workload_id: str
    customer_id: str
    name: str
    workload_type: WorkloadType
    priority: int
    requirements: Requirements
    status: WorkloadStatus
    status_reason: str
    facility_id: str | None
    device_ids: list[str]
    queue_position: int | None
    cost_usd_micros: int
    reserved_usd_micros: int
    device_seconds: int
    created_at_ms: int
    cancel_requested_at_ms: int | None
    started_at_ms: int | None
    finished_at_ms: int | None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """A request for inference in OpenAI's form: what the gateway looks at; the server is sent all that was given."""

    prompt: Annotated[str, Meta(examples=["Once upon a time"])] | list[int]
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000, examples=[16])] = 16
    stream: Annotated[bool, Meta(description="Tokens as they come, as server-sent events.")] = False


class WorkloadPage(msgspec.Struct, frozen=True, kw_only=True):
    """Workloads and the cursor of the next page; null on the last one."""

    items: list[Workload]
    next_cursor: str | None


class WorkloadStep(msgspec.Struct, frozen=True, kw_only=True):
    """One event in a workload's life."""

    event_id: str
    event_type: str
    facility_id: str | None
    reason: str
    observed_at_ms: int


class WorkloadSteps(msgspec.Struct, frozen=True, kw_only=True):
    """A workload's events, oldest first."""

    items: list[WorkloadStep]


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One device, as last reported; mode and state are null before the first report."""

    resource_id: str
    facility_id: str
    cluster_id: str
    shard_id: str
    device_class: str
    mode: DeviceMode | None
    state: DeviceState | None
    epoch: int | None
    owner: str | None
    observed_at_ms: int | None


class ResourcePage(msgspec.Struct, frozen=True, kw_only=True):
    """Devices by id and the cursor of the next page; null on the last one."""

    items: list[Resource]
    next_cursor: str | None


class MaintenanceChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether HCP leaves a device alone, and why."""

    is_in_maintenance: Annotated[bool, Meta(description="True: HCP switches it no more. False: it is released.")]
    why: Annotated[str, Meta(pattern=TEXT, min_length=1, max_length=200, examples=["fan replaced"])]


class OrderTaken(msgspec.Struct, frozen=True, kw_only=True):
    """An order on its way to the Resource Manager."""

    order_id: str
    resource_id: str
    action: str


class ModeProfit(msgspec.Struct, frozen=True, kw_only=True):
    """What one device earns in one mode, by the latest score."""

    facility_id: str
    device_class: str
    mode: DeviceMode
    profit_usd_per_hour: float
    revenue_usd_per_hour: float
    energy_cost_usd_per_hour: float
    is_best: bool
    confidence: float
    observed_at_ms: int


class Profitability(msgspec.Struct, frozen=True, kw_only=True):
    """The latest scores and when they were read; null before the first reading."""

    as_of_ms: int | None
    items: list[ModeProfit]


class ProfitHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Past scores, newest first."""

    items: list[ModeProfit]


class RouteAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Where the workload would run now; nothing is reserved."""

    is_possible: bool
    facility_id: str | None
    start_ms: int | None
    price_usd_micros_per_device_hour: int | None
    reserved_usd_micros: int
    reasons: list[str]
    as_of_ms: int | None


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one workload used on one class at one site."""

    workload_id: str
    facility_id: str
    device_class: str
    device_seconds: int
    amount_usd_micros: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Usage of a span of time."""

    from_ms: int
    to_ms: int
    amount_usd_micros: int
    items: list[UsageRow]


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """One day's invoice."""

    invoice_id: str
    customer_id: str
    day: str
    amount_usd_micros: int
    issued_at_ms: int


class Invoices(msgspec.Struct, frozen=True, kw_only=True):
    """Invoices, newest first."""

    items: list[Invoice]
    next_cursor: str | None


class InvoiceLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line with its proof: the record on the topic it was made from."""

    usage_id: str
    workload_id: str
    facility_id: str
    device_class: str
    interval_start_ms: int
    interval_end_ms: int
    device_seconds: int
    price_usd_micros_per_device_hour: int
    amount_usd_micros: int
    kafka_topic: str
    kafka_partition: int
    kafka_offset: int


class InvoiceDetail(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice with its lines, which add up to its amount."""

    invoice: Invoice
    lines: list[InvoiceLine]


class RevenueRow(msgspec.Struct, frozen=True, kw_only=True):
    """What customers owe for one class at one site on one day."""

    day: str
    facility_id: str
    device_class: str
    device_seconds: int
    amount_usd_micros: int


class Revenue(msgspec.Struct, frozen=True, kw_only=True):
    """The platform's revenue from customers."""

    amount_usd_micros: int
    items: list[RevenueRow]


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who is signed in, and the customer's quotas."""

    user_id: str
    email: str
    role: Role
    kind: Kind
    customer_id: str
    customer_name: str
    concurrent_devices_max: int
    concurrent_devices: int
    spend_usd_micros_per_day_max: int
    spend_usd_micros_today: int


class PasswordGrant(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="grant_type", tag="password"
):
    """Sign in as a person."""

    email: Email
    password: Secret


class RefreshGrant(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="grant_type", tag="refresh_token"
):
    """Go on with a session; each refresh token works once."""

    refresh_token: Secret


class ServiceGrant(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="grant_type",
    tag="client_credentials",
):
    """Sign in as a service."""

    client_id: Email
    client_secret: Secret


class Revocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which session to end: the one of this refresh token; null: the one of the access token that asks."""

    refresh_token: Secret | None = None


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens; a service gets no refresh token."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str | None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the process lives, or each thing it needs answers."""

    status: str
    checks: dict[str, str] = {}
