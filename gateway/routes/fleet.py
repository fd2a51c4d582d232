"""Resources and what they earn: for admins devices and their maintenance, for everybody signed in the scores."""

from bisect import bisect_right
from typing import Annotated, Final

from litestar import Response, get, patch
from litestar.params import JSONBody, PathParameter, QueryParameter

from gateway.cursors import Position, cursor_of, position_of
from gateway.deps import Gateway
from gateway.edge import caller_of
from gateway.etags import etag_of, is_named, require_match
from gateway.limits import Limit
from gateway.outbox import audit_of, owe
from gateway.principals import Access
from gateway.problems import not_found
from gateway.records import (
    MaintenanceChange,
    OrderTaken,
    Profitability,
    ProfitHistory,
    Resource,
    ResourcePage,
)
from gateway.routes.shared import (
    DEFAULT_LIMIT,
    LATEST_MS,
    SIGNED_IN,
    AnyRequest,
    Cursor,
    FromMs,
    IfMatch,
    IfNoneMatch,
    PageLimit,
    Parts,
    call_of,
    errors,
    marked,
)
from gateway.view import profit_of
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.orders import OperatorOrder, OrderAction, order_of

HISTORY_MAX: Final = 1_000
SORT: Final = "resource_id"
_HISTORY: Final = """
select facility_id, device_class, mode, profit_usd_per_hour, revenue_usd_per_hour, energy_cost_usd_per_hour, best_mode,
       confidence, (extract(epoch from observed_at) * 1000)::bigint as observed_at_ms
from recommendations
where observed_at >= to_timestamp(%s::double precision / 1000)
  and observed_at < to_timestamp(%s::double precision / 1000)
  and (%s::text is null or facility_id = %s) and (%s::text is null or device_class = %s)
order by observed_at desc, kafka_offset desc, device_class, mode limit %s
"""
HISTORY_SPAN_MS: Final = 31 * 24 * 3_600_000

Facility = Annotated[str | None, QueryParameter(name="facility_id", max_length=63, description="Only this site.")]
Class = Annotated[str | None, QueryParameter(name="device_class", max_length=63, description="Only this class.")]


@get(
    "/resources",
    name="list_resources",
    opt=marked(Access.ADMIN, Limit.READ),
    security=SIGNED_IN,
    responses=errors(401, 403),
)
async def list_all(
    gateway: Parts,
    facility_id: Facility = None,
    device_class: Class = None,
    mode: Annotated[DeviceMode | None, QueryParameter(name="mode", description="Only in this mode.")] = None,
    device_state: Annotated[DeviceState | None, QueryParameter(name="state", description="Only in this state.")] = None,
    cursor: Cursor = None,
    limit: PageLimit = DEFAULT_LIMIT,
) -> ResourcePage:
    """List devices by id, as last reported."""
    names, devices = gateway.view.device_ids, gateway.view.devices
    start = 0 if cursor is None else bisect_right(names, position_of(cursor, sort=SORT, is_uuid=False).identity)
    found: list[Resource] = []
    for name in names[start:]:
        device = devices[name]
        if (
            facility_id in {None, device.facility_id}
            and device_class in {None, device.device_class}
            and mode in {None, device.mode}
            and device_state in {None, device.state}
        ):
            found.append(device)
            if len(found) > limit:
                break
    is_more = len(found) > limit
    last = cursor_of(Position(sort=SORT, value=0, identity=found[limit - 1].resource_id)) if is_more else None
    return ResourcePage(items=found[:limit], next_cursor=last)


ResourceId = Annotated[str, PathParameter(description="A device, `tx-north.gpu-1/00/003`.")]


def _device(gateway: Gateway, resource_id: str) -> Resource:
    name = resource_id.lstrip("/")[:200]
    device = gateway.view.devices.get(name)
    if device is None:
        raise not_found("resource", name)
    return device


@get(
    "/resources/{resource_id:path}",
    name="get_resource",
    opt=marked(Access.ADMIN, Limit.READ),
    security=SIGNED_IN,
    responses=errors(401, 403, 404),
)
async def get_one(
    resource_id: ResourceId, gateway: Parts, if_none_match: IfNoneMatch = None
) -> Response[Resource | None]:
    """Look at one device."""
    device = _device(gateway, resource_id)
    etag = etag_of(device)
    if is_named(if_none_match, etag):
        return Response(None, status_code=304, headers={"etag": etag})
    return Response(device, headers={"etag": etag})


@patch(
    "/resources/{resource_id:path}",
    name="change_resource",
    status_code=202,
    opt=marked(Access.ADMIN, Limit.WRITE),
    security=SIGNED_IN,
    responses=errors(401, 403, 404, 412, 413, 415),
)
async def change(
    data: JSONBody[MaintenanceChange],
    resource_id: ResourceId,
    request: AnyRequest,
    gateway: Parts,
    if_match: IfMatch = None,
) -> OrderTaken:
    """Take a device into maintenance or release it: an order, which the Resource Manager carries out."""
    device = _device(gateway, resource_id)
    require_match(if_match, etag_of(device))
    order = _order(device, data, request, gateway)
    call = call_of(request, gateway)
    audit = audit_of(
        f"resource.{order.action.value}",
        device.resource_id,
        caller=call.caller,
        origin=call.origin,
        after=data,
        before=device,
        at_ms=call.at_ms,
    )
    async with gateway.database.transaction() as connection:
        await owe(connection, [order, audit], trace_id=order.order_id)
    gateway.notifier.poke()
    return OrderTaken(order_id=order.order_id, resource_id=device.resource_id, action=order.action.value)


def _order(device: Resource, change_: MaintenanceChange, request: AnyRequest, gateway: Gateway) -> OperatorOrder:
    shard = gateway.view.fleet.shard(device.shard_id)
    assert shard is not None, "a device of the view must be of the fleet"
    call = call_of(request, gateway)
    return order_of(
        OrderAction.MAINTENANCE if change_.is_in_maintenance else OrderAction.RELEASE,
        shard,
        [int(device.resource_id.rpartition("/")[2])],
        operator=caller_of(request.scope).email[:64],
        origin=call.origin,
        why=change_.why,
        observed_at_ms=call.at_ms,
    )


@get(
    "/profitability",
    name="get_profitability",
    opt=marked(Access.SIGNED_IN, Limit.READ),
    security=SIGNED_IN,
    responses=errors(401),
)
async def profitability(gateway: Parts, facility_id: Facility = None, device_class: Class = None) -> Profitability:
    """Return the latest score of every mode, by site and class."""
    items = [
        score
        for key, score in sorted(gateway.view.profits.items())
        if facility_id in {None, key[0]} and device_class in {None, key[1]}
    ]
    return Profitability(as_of_ms=gateway.view.as_of_ms, items=items)


@get(
    "/profitability/history",
    name="get_profitability_history",
    opt=marked(Access.SIGNED_IN, Limit.READ),
    security=SIGNED_IN,
    responses=errors(401),
)
async def history(
    gateway: Parts,
    facility_id: Facility = None,
    device_class: Class = None,
    from_ms: FromMs = None,
    to_ms: Annotated[
        int | None, QueryParameter(name="to_ms", ge=0, le=LATEST_MS, description="Before, ms since 1970.")
    ] = None,
    limit: Annotated[int, QueryParameter(name="limit", ge=1, le=HISTORY_MAX, description="Rows.")] = 100,
) -> ProfitHistory:
    """Return past scores, newest first; at most 31 days, by default the last ones."""
    end_ms = to_ms if to_ms is not None else LATEST_MS
    begin_ms = from_ms if from_ms is not None else 0
    if to_ms is not None and from_ms is None:
        begin_ms = max(0, end_ms - HISTORY_SPAN_MS)
    rows = await gateway.analytics.rows(
        _HISTORY,
        begin_ms,
        end_ms,
        _plain(facility_id),
        _plain(facility_id),
        _plain(device_class),
        _plain(device_class),
        limit,
    )
    return ProfitHistory(items=[profit_of(row) for row in rows])


def _plain(text: str | None) -> str | None:
    """Return text that PostgreSQL can hold: it knows no NUL."""
    return None if text is None else text.replace("\x00", "")


HANDLERS: Final = [list_all, get_one, change, profitability, history]
