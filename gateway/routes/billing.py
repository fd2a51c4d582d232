"""Usage and invoices of a customer, each line with its proof; the platform's revenue for admins."""

from typing import Annotated, Final

from litestar import get
from litestar.params import PathParameter

from gateway.cursors import Position, cursor_of, position_of, uuid_of
from gateway.edge import caller_of
from gateway.limits import Limit
from gateway.principals import Access
from gateway.problems import not_found
from gateway.records import (
    Invoice,
    InvoiceDetail,
    InvoiceLine,
    Invoices,
    Revenue,
    RevenueRow,
    Usage,
    UsageRow,
)
from gateway.routes.shared import (
    DEFAULT_LIMIT,
    LATEST_MS,
    SIGNED_IN,
    AnyRequest,
    Cursor,
    FromMs,
    PageLimit,
    Parts,
    ToMs,
    errors,
    marked,
)

SORT: Final = "-issued_at"
ROWS_MAX: Final = 10_000
_SPAN: Final = (
    "interval_start >= to_timestamp(%s::double precision / 1000) "
    "and interval_start < to_timestamp(%s::double precision / 1000)"
)
_USAGE: Final = f"""
select workload_id::text, facility_id, device_class, sum(device_seconds)::bigint as device_seconds,
       sum(amount_usd_micros)::bigint as amount_usd_micros
from billing_usage where customer_id = %s and {_SPAN}
group by workload_id, facility_id, device_class order by workload_id, facility_id, device_class limit {ROWS_MAX}
"""  # noqa: S608  # parts of ours
_REVENUE: Final = f"""
select to_char(interval_start at time zone 'UTC', 'YYYY-MM-DD') as day, facility_id, device_class,
       sum(device_seconds)::bigint as device_seconds, sum(amount_usd_micros)::bigint as amount_usd_micros
from billing_usage where {_SPAN}
group by 1, 2, 3 order by 1 desc, 2, 3 limit {ROWS_MAX}
"""  # noqa: S608  # parts of ours
_INVOICE: Final = (
    "select invoice_id::text, customer_id::text, day::text, amount_usd_micros, "
    "(extract(epoch from issued_at) * 1000)::bigint as issued_at_ms from invoices "
    "where (%s::uuid is null or customer_id = %s::uuid) "
)
_LINES: Final = (
    "select usage_id::text, workload_id::text, facility_id, device_class, "
    "(extract(epoch from interval_start) * 1000)::bigint as interval_start_ms, "
    "(extract(epoch from interval_end) * 1000)::bigint as interval_end_ms, device_seconds, "
    "price_usd_micros_per_device_hour, amount_usd_micros, kafka_topic, kafka_partition, kafka_offset "
    "from invoice_lines where invoice_id = %s order by interval_start, usage_id"
)


@get(
    "/billing/usage",
    name="get_usage",
    opt=marked(Access.SIGNED_IN, Limit.READ),
    security=SIGNED_IN,
    responses=errors(401),
)
async def usage(request: AnyRequest, gateway: Parts, from_ms: FromMs = None, to_ms: ToMs = None) -> Usage:
    """Add up what your workloads used in a span of time, by default all of it."""
    begin_ms, end_ms = from_ms or 0, LATEST_MS if to_ms is None else to_ms
    caller = caller_of(request.scope)
    rows = await gateway.analytics.rows(_USAGE, caller.customer_id, begin_ms, end_ms)
    items = [UsageRow(**row) for row in rows]
    amount = sum(each.amount_usd_micros for each in items)
    return Usage(from_ms=begin_ms, to_ms=end_ms, amount_usd_micros=amount, items=items)


@get(
    "/billing/invoices",
    name="list_invoices",
    opt=marked(Access.SIGNED_IN, Limit.READ),
    security=SIGNED_IN,
    responses=errors(401),
)
async def invoices(
    request: AnyRequest, gateway: Parts, cursor: Cursor = None, limit: PageLimit = DEFAULT_LIMIT
) -> Invoices:
    """List your invoices, newest first; an admin's list holds everybody's."""
    seen = caller_of(request.scope).sees_customer
    question, values = _INVOICE, [seen, seen]
    if cursor is not None:
        position = position_of(cursor, sort=SORT)
        question += "and (issued_at, invoice_id) < (to_timestamp(%s::double precision / 1000), %s::uuid) "
        values += [str(position.value), position.identity]
    rows = await gateway.database.rows(
        f"{question} order by issued_at desc, invoice_id desc limit {limit + 1}", *values
    )
    items = [Invoice(**row) for row in rows]
    if len(items) <= limit:
        return Invoices(items=items, next_cursor=None)
    last = items[limit - 1]
    following = cursor_of(Position(sort=SORT, value=last.issued_at_ms, identity=last.invoice_id))
    return Invoices(items=items[:limit], next_cursor=following)


@get(
    "/billing/invoices/{invoice_id:str}",
    name="get_invoice",
    opt=marked(Access.SIGNED_IN, Limit.READ),
    security=SIGNED_IN,
    responses=errors(401, 404),
)
async def invoice(
    invoice_id: Annotated[str, PathParameter(description="UUID of an invoice.", max_length=64)],
    request: AnyRequest,
    gateway: Parts,
) -> InvoiceDetail:
    """Look at one invoice: each line names the record of `billing.usage` it was made from."""
    identity = uuid_of(invoice_id, "invoice_id")
    seen = caller_of(request.scope).sees_customer
    row = await gateway.database.row(f"{_INVOICE} and invoice_id = %s", seen, seen, identity)
    if row is None:
        raise not_found("invoice", identity)
    lines = await gateway.database.rows(_LINES, identity)
    return InvoiceDetail(invoice=Invoice(**row), lines=[InvoiceLine(**line) for line in lines])


@get(
    "/platform/revenue",
    name="get_revenue",
    opt=marked(Access.ADMIN, Limit.READ),
    security=SIGNED_IN,
    responses=errors(401, 403),
)
async def revenue(gateway: Parts, from_ms: FromMs = None, to_ms: ToMs = None) -> Revenue:
    """Add up what customers owe, by day, site and class."""
    rows = await gateway.analytics.rows(_REVENUE, from_ms or 0, LATEST_MS if to_ms is None else to_ms)
    items = [RevenueRow(**row) for row in rows]
    return Revenue(amount_usd_micros=sum(each.amount_usd_micros for each in items), items=items)


HANDLERS: Final = [usage, invoices, invoice, revenue]
