"""The gateway's routes on real PostgreSQL, TimescaleDB and Redis: what customers submit, see and change."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from gateway.principals import Role
from hcp.codecs import decode
from hcp.model.ids import id_from_content
from hcp.model.ledger import AuditEvent
from hcp.model.orders import OperatorOrder, OrderAction
from hcp.model.workloads import WorkloadEvent, WorkloadEventType
from hcp.stack import StackAddresses
from tests.gateway_lab import Lab, body_of, client_of, gateway_lab, gateway_process, keyed, refreshed, signed_in

pytestmark = pytest.mark.services

WORKLOADS = "/api/v1/workloads"
DEVICE = "tx-north.gpu-1/00/003"


@pytest.fixture(scope="module")
def lab(services: StackAddresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Give one gateway's databases to the module."""
    with gateway_lab(services, tmp_path_factory.mktemp("gateway")) as made:
        yield made


def _owed(lab: Lab, key: str) -> list[Any]:
    rows = lab.operational.ask("select record from outbox where record_key = %s order by outbox_id", key)
    return [decode(bytes(row["record"])) for row in rows]


async def test_a_submission_is_one_row_one_event_and_one_audit_event(lab: Lab) -> None:
    """What is accepted is owed to Kafka by the same transaction, with derived ids."""
    async with client_of(lab) as (client, _):
        headers = await signed_in(client, lab.user())
        answer = await client.post(WORKLOADS, json=body_of(device_count=2), headers=keyed(headers, "first"))
        seen = (await client.get(answer.headers["location"], headers=headers)).json()
    workload = answer.json()
    assert (answer.status_code, workload["status"], workload["reserved_usd_micros"]) == (201, "created", 8_000_000)
    assert seen == workload
    event, audit = _owed(lab, workload["workload_id"])
    assert isinstance(event, WorkloadEvent)
    assert isinstance(audit, AuditEvent)
    assert workload["workload_id"] == id_from_content("workload", workload["customer_id"], "first")
    assert (event.event_type, event.device_count, event.device_class) == (WorkloadEventType.CREATED, 2, "h100")
    assert (audit.action, audit.subject) == ("workload.submit", workload["workload_id"])


async def test_a_key_makes_one_workload(lab: Lab) -> None:
    """The same request sent again, even at once, answers the same workload; with another body it is refused."""
    async with client_of(lab) as (client, _):
        headers = keyed(await signed_in(client, lab.user()), "again")
        answers = await asyncio.gather(*(client.post(WORKLOADS, json=body_of(), headers=headers) for _ in range(8)))
        other = await client.post(WORKLOADS, json=body_of(device_count=2), headers=headers)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["workload_id"] for answer in answers}) == 1
    assert sorted(answer.headers["idempotency-replayed"] for answer in answers) == ["false", *["true"] * 7]
    assert (other.status_code, other.json()["type"]) == (409, "urn:hcp:problem:idempotency_key_reused")


@pytest.mark.parametrize(
    ("quota", "wants", "fitting"),
    [
        ({"devices_max": 6}, {"device_count": 2}, 3),
        ({"devices_max": 99, "spend_usd_micros_per_day_max": 10_000_000}, {"device_count": 1}, 2),
    ],
)
async def test_racing_submissions_never_pass_a_quota_together(
    lab: Lab, quota: dict[str, int], wants: dict[str, int], fitting: int
) -> None:
    """Of twelve at once exactly as many are accepted as the quota has room for."""
    async with client_of(lab) as (client, _):
        headers = await signed_in(client, lab.user(quota=quota))
        answers = await asyncio.gather(
            *(client.post(WORKLOADS, json=body_of(**wants), headers=keyed(headers)) for _ in range(12))
        )
        me = (await client.get("/api/v1/me", headers=headers)).json()
    assert sorted(answer.status_code for answer in answers) == [201] * fitting + [422] * (12 - fitting)
    assert me["concurrent_devices"] == fitting * wants["device_count"]
    refused = next(answer.json() for answer in answers if answer.status_code == 422)
    assert refused["type"] == "urn:hcp:problem:quota_exceeded"


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "priority", "-priority"])
async def test_pages_hold_every_workload_once_in_order(lab: Lab, sort: str) -> None:
    """Cursors walk through all rows, also where many have the same priority."""
    async with client_of(lab) as (client, _):
        headers = await signed_in(client, lab.user(quota={"devices_max": 99}))
        for number in range(7):
            body = {**body_of(run_seconds_max=1), "priority": 1 + number % 3}
            await client.post(WORKLOADS, json=body, headers=keyed(headers))
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            query = f"?sort={sort}&limit=3" + (f"&cursor={cursor}" if cursor else "")
            page = (await client.get(WORKLOADS + query, headers=headers)).json()
            found += page["items"]
            cursor = page["next_cursor"]
        none = (await client.get(f"{WORKLOADS}?status=failed", headers=headers)).json()
    column = "priority" if "priority" in sort else "created_at_ms"
    values = [(each[column], each["workload_id"]) for each in found]
    assert len({each["workload_id"] for each in found}) == 7
    assert values == sorted(values, reverse=sort.startswith("-"))
    assert none == {"items": [], "next_cursor": None}


async def test_a_cancel_is_asked_once_and_only_for_what_was_seen(lab: Lab) -> None:
    """If-Match guards it; repeated, it owes Kafka no second event; what has ended cannot be cancelled."""
    async with client_of(lab) as (client, _):
        headers = await signed_in(client, lab.user())
        made = await client.post(WORKLOADS, json=body_of(), headers=keyed(headers))
        path, identity = made.headers["location"], made.json()["workload_id"]
        wrong = await client.delete(path, headers={**headers, "if-match": '"other"'})
        right = await client.delete(path, headers={**headers, "if-match": made.headers["etag"]})
        again = await client.delete(path, headers=headers)
        fresh = await client.get(path, headers={**headers, "if-none-match": again.headers["etag"]})
        with psycopg.connect(lab.operational.dsn) as sink:  # the sink's word, which this test speaks for it
            sink.execute(
                "update workloads set status = 'cancelled', finished_at = now() where workload_id = %s", (identity,)
            )
        late = await client.delete(path, headers=headers)
    assert [each.status_code for each in (wrong, right, again, fresh, late)] == [412, 202, 202, 304, 409]
    assert right.json()["cancel_requested_at_ms"] == again.json()["cancel_requested_at_ms"]
    events = [each.event_type for each in _owed(lab, identity) if isinstance(each, WorkloadEvent)]
    assert events == [WorkloadEventType.CREATED, WorkloadEventType.CANCELLED]


async def test_maintenance_is_an_order_for_the_resource_manager(lab: Lab) -> None:
    """An admin's change becomes an OperatorOrder in the outbox with its audit event; the device is not written."""
    async with client_of(lab) as (client, _):
        headers = await signed_in(client, lab.user(role=Role.ADMIN))
        seen = await client.get(f"/api/v1/resources/{DEVICE}", headers=headers)
        change = {"is_in_maintenance": True, "why": "fan replaced"}
        stale = await client.patch(
            f"/api/v1/resources/{DEVICE}", json=change, headers={**headers, "if-match": '"stale"'}
        )
        taken = await client.patch(
            f"/api/v1/resources/{DEVICE}", json=change, headers={**headers, "if-match": seen.headers["etag"]}
        )
        listed = (await client.get("/api/v1/resources?device_class=h100&limit=200", headers=headers)).json()["items"]
    assert (stale.status_code, taken.status_code) == (412, 202)
    [order] = [each for each in _owed(lab, "tx-north") if isinstance(each, OperatorOrder)]
    assert (order.order_id, order.action, order.device_indexes) == (
        taken.json()["order_id"],
        OrderAction.MAINTENANCE,
        (3,),
    )
    assert DEVICE in [each["resource_id"] for each in listed]
    assert {each["device_class"] for each in listed} == {"h100"}


_STATE = (
    "insert into resource_states (state_key, facility_id, cluster_id, shard_id, device_class, reported_by, "
    "device_index, mode, state, epoch, owner, observed_at, device_id, recorded_at, kafka_partition, kafka_offset) "
    "values (%s, 'tx-north', 'tx-north.gpu-1', 'tx-north.gpu-1/00', 'h100', %s, %s, %s, 'active', 1, '', now(), %s, "
    "now(), 0, %s)"
)


def _report(lab: Lab, *, index: int, mode: str, offset: int, reporter: str = "resources") -> None:
    with psycopg.connect(lab.analytics.dsn) as sink:
        values = (f"k/{reporter}", reporter, index, mode, f"tx-north.gpu-1/00/{index:03d}", offset)
        sink.execute(_STATE.encode(), values)


async def test_the_view_follows_reports_and_route_answers_from_it(lab: Lab) -> None:
    """Devices, prices and where a workload would run come from what sinks wrote; the Resource Manager outranks."""
    async with client_of(lab) as (client, gateway):
        headers = await signed_in(client, lab.user())
        before = (await client.post("/api/v1/route", json=body_of(), headers=headers)).json()
        _report(lab, index=0, mode="ai_inference", offset=5)
        _report(lab, index=0, mode="mining", offset=9, reporter="fleet_monitor")
        with psycopg.connect(lab.analytics.dsn) as sink:
            sink.execute(
                "insert into market_prices (facility_id, series, instrument, value, unit, interval_start, interval_ms, "
                "observed_at, source, recorded_at, kafka_partition, kafka_offset) "
                "values ('tx-north', 'gpu_rental', 'h100', 2.5, 'usd_per_gpu_hour', now(), "
                "3600000, now(), 'test', now(), 0, 1)"
            )
        await refreshed(gateway)
        after = (await client.post("/api/v1/route", json=body_of(), headers=headers)).json()
        dear = body_of(price_usd_micros_per_device_hour_max=1_000_000)
        too_dear = (await client.post("/api/v1/route", json=dear, headers=headers)).json()
    assert (before["is_possible"], too_dear["is_possible"]) == (False, False)
    assert (after["facility_id"], after["price_usd_micros_per_device_hour"], after["start_ms"]) == (
        "tx-north",
        2_500_000,
        300,
    )
    assert after["reserved_usd_micros"] == 2_500_000
    assert gateway.view.devices["tx-north.gpu-1/00/000"].mode == "ai_inference"


async def test_bills_add_up_and_prove_themselves(lab: Lab) -> None:
    """Usage comes from billing.usage, invoices from their tables; each line names its record."""
    async with client_of(lab) as (client, _):
        headers = await signed_in(client, lab.user())
        customer = (await client.get("/api/v1/me", headers=headers)).json()["customer_id"]
        workload = str(uuid4())
        with psycopg.connect(lab.analytics.dsn) as sink:
            for offset in range(3):
                sink.execute(
                    "insert into billing_usage (usage_id, workload_id, customer_id, facility_id, device_class, "
                    "interval_start, interval_end, device_seconds, price_usd_micros_per_device_hour, "
                    "amount_usd_micros, observed_at, recorded_at, kafka_partition, kafka_offset) "
                    "values (%s, %s, %s, 'tx-north', 'h100', now(), now(), 60, 3600000, "
                    "60000, now(), now(), 0, %s)",
                    (str(uuid4()), workload, customer, offset),
                )
        invoice = str(uuid4())
        with psycopg.connect(lab.operational.dsn) as sink:
            sink.execute("insert into invoices values (%s, %s, '2026-11-25', 60000, now())", (invoice, customer))
            sink.execute(
                "insert into invoice_lines values (%s, %s, %s, 'tx-north', 'h100', now(), now(), 60, 3600000, 60000, "
                "'billing.usage', 0, 7)",
                (invoice, str(uuid4()), workload),
            )
        usage = (await client.get("/api/v1/billing/usage", headers=headers)).json()
        listed = (await client.get("/api/v1/billing/invoices", headers=headers)).json()
        detail = (await client.get(f"/api/v1/billing/invoices/{invoice}", headers=headers)).json()
        steps = await client.get(f"{WORKLOADS}/{workload}/events", headers=headers)
    assert (usage["amount_usd_micros"], usage["items"][0]["device_seconds"]) == (180_000, 180)
    assert [each["invoice_id"] for each in listed["items"]] == [invoice]
    assert [(line["kafka_topic"], line["kafka_offset"]) for line in detail["lines"]] == [("billing.usage", 7)]
    assert steps.status_code == 404


def test_the_gateway_process_serves_the_same(lab: Lab, tmp_path: Path) -> None:
    """On Granian, as its own process: an answer over TCP, and SIGTERM ends it with 0."""
    email = lab.user()
    with gateway_process(lab, tmp_path) as served:
        headers = served.sign_in(email)
        made = httpx.post(f"{served.url}{WORKLOADS}", json=body_of(), headers=keyed(headers))
        docs = httpx.get(f"{served.url}/api/docs/openapi.json")
    assert made.status_code == 201, made.text
    assert docs.json()["openapi"].startswith("3.1")
