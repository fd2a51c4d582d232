"""What customers read: workloads, costs and invoices exactly once in PostgreSQL, live changes in Redis."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import redis

from gateway.migrations import prepare
from hcp.clock import wall_ms
from hcp.codecs import encode
from hcp.errors import StoreUnavailableError
from hcp.kafka.records import ConsumedRecord
from hcp.model.ids import id_from_content
from hcp.model.units import EpochMs
from hcp.model.workloads import WorkloadEvent, WorkloadEventType
from hcp.stack import StackAddresses
from hcp.topics import topic_of
from sinks.live.messages import customer_channel
from sinks.live.service import Live
from sinks.loop import Told
from sinks.operational.service import Operational
from tests.examples import AT, CUSTOMER, EVENT, USAGE, WORKLOAD
from tests.sink_process import fresh_database
from tests.unit.streams.world import DEMO_FLEET

pytestmark = pytest.mark.services
USER = id_from_content("user")
KINDS = WorkloadEventType


def told(value: object, offset: int, *, timestamp_ms: int = AT) -> Told:
    """Return a value as it would be consumed."""
    name = topic_of(value).name
    raw = encode(value)
    record = ConsumedRecord(
        topic=name, partition=3, offset=offset, timestamp_ms=timestamp_ms, key=None, value=raw, headers=()
    )
    return record, value


def an_event(kind: WorkloadEventType, *, run: int = 1, after_ms: int = 0, **more: Any) -> WorkloadEvent:
    """Make an event of the workload."""
    event = replace(EVENT, event_type=kind, run_number=run, queue_position=None, observed_at_ms=EpochMs(AT + after_ms))
    return replace(event, **more)


@pytest.fixture
def dsn(services: StackAddresses) -> Iterator[str]:
    """Give the gateway's database with one customer's one workload."""
    with fresh_database(services) as database:
        prepare(database.dsn, DEMO_FLEET)
        with psycopg.connect(database.dsn) as connection:
            connection.execute("insert into customers (customer_id, name) values (%s, 'acme')", (CUSTOMER,))
            connection.execute(
                "insert into users (user_id, customer_id, email, kind, role, password_hash) "
                "values (%s, %s, 'a@example.com', 'person', 'customer', 'x')",
                (USER, CUSTOMER),
            )
            connection.execute(
                "insert into workloads (workload_id, customer_id, submitted_by, name, workload_type, priority, "
                "device_class, device_count, requirements, reserved_usd_micros, created_at) "
                "values (%s, %s, %s, 'w', 'batch', 5, 'h100', 2, '{}', 0, now())",
                (WORKLOAD, CUSTOMER, USER),
            )
        yield database.dsn


def row(dsn: str, question: str) -> tuple[Any, ...]:
    """Return the one row of a question."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(question.encode()).fetchall()
    assert len(found) == 1
    return tuple(found[0])


def test_a_life_is_written_once_however_often_it_is_read(dsn: str) -> None:
    """A batch delivered again, whole or in part, changes nothing."""
    sink = Operational(dsn)
    life = [
        told(an_event(KINDS.CREATED, run=0), 0),
        told(an_event(KINDS.QUEUED, run=0, queue_position=3, facility_id="tx-north"), 1),
        told(an_event(KINDS.PLACED, facility_id="tx-north"), 2),
        told(an_event(KINDS.STARTED, after_ms=1_000, facility_id="tx-north"), 3),
        told(an_event(KINDS.METERED, after_ms=2_000), 4),
        told(an_event(KINDS.COMPLETED, after_ms=9_000, reason="its time is up"), 5),
    ]
    question = (
        "select status, status_reason, facility_id, queue_position, kafka_offset, "
        "(extract(epoch from finished_at - started_at) * 1000)::int from workloads"
    )
    sink.take(life[:2])
    assert row(dsn, question) == ("queued", EVENT.reason, "tx-north", 3, 1, None)
    sink.take(life)
    sink.take(life[2:4])
    assert row(dsn, question) == ("completed", "its time is up", "tx-north", None, 5, 8_000)
    sink.close()


def test_a_usage_is_billed_once_and_its_line_proves_it(dsn: str) -> None:
    """Read again, and sent again under another offset, it is neither on the invoice nor in the cost a second time."""
    sink = Operational(dsn)
    usage = replace(USAGE, workload_id=WORKLOAD, customer_id=CUSTOMER)
    credit = replace(usage, usage_id=id_from_content("credit"), device_seconds=0, amount_usd_micros=-5)
    sink.take([told(usage, 7), told(credit, 8)])
    sink.take([told(usage, 7), told(credit, 8), told(usage, 9)])
    owed = usage.amount_usd_micros - 5
    assert row(dsn, "select cost_usd_micros, device_seconds from workloads") == (owed, usage.device_seconds)
    assert row(dsn, "select amount_usd_micros, count(*) over () from invoices") == (owed, 1)
    lines = "select array_agg(kafka_topic || '/' || kafka_partition || '/' || kafka_offset order by kafka_offset) "
    assert row(dsn, f"{lines} from invoice_lines") == (["billing.usage/3/7", "billing.usage/3/8"],)
    sink.close()


def test_what_is_nobody_s_workload_is_passed_over(dsn: str) -> None:
    """An event of a workload that the gateway does not have stops nothing behind it."""
    sink = Operational(dsn)
    other = an_event(KINDS.QUEUED, run=0, workload_id=id_from_content("nobody"))
    sink.take([told(other, 0), told(an_event(KINDS.QUEUED, run=0), 1)])
    assert row(dsn, "select status from workloads") == ("queued",)
    sink.close()


def test_a_database_that_is_away_is_to_be_waited_for() -> None:
    """The loop tries again; nothing is lost."""
    with pytest.raises(StoreUnavailableError):
        Operational("postgresql://postgres@127.0.0.1:1/hcp").take([told(EVENT, 0)])


def test_live_changes_are_published_and_kept_under_one_id(services: StackAddresses) -> None:
    """A listener hears the id that the log has; what is old is not live."""
    channel = customer_channel(CUSTOMER)
    client: Any = redis.Redis.from_url(services.redis_url)
    client.delete(f"{channel}:log")
    heard = client.pubsub(ignore_subscribe_messages=True)
    heard.subscribe(channel)
    heard.get_message(timeout=90)  # the confirmation
    now_ms = wall_ms()
    Live(services.redis_url).take([told(EVENT, 0), told(EVENT, 1, timestamp_ms=now_ms)])
    message = heard.get_message(timeout=90)
    assert message is not None
    payload = json.loads(message["data"])
    ((entry_id, fields),) = client.xrange(f"{channel}:log")
    assert payload["id"] == entry_id.decode()
    assert payload["topic"] == fields[b"topic"].decode() == "workload.events"
    assert payload["data"] == json.loads(fields[b"data"])
    assert payload["data"]["workload_id"] == WORKLOAD
    heard.close()
    client.close()
