"""The part of HCP that a submission passes, as the processes that it is, for benchmarks and tests of the whole way.

A gateway, relay, router, resource manager, billing, controllers of simulated devices, and the sinks of what customers
read; no market and no optimizer, so that no device is switched but for a workload.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx

from bench.load import price
from gateway.accounts import NewUser, create_user
from gateway.migrations import prepare
from gateway.passwords import new_secret
from gateway.principals import Kind, Role
from hcp.cli.children import Children
from hcp.cli.stack import settings_of
from hcp.clock import wall_ms
from hcp.fleet import load_fleet
from hcp.kafka.admin import ensure_topics
from hcp.kafka.producer import RecordProducer
from hcp.model.facilities import Fleet
from hcp.model.markets import PriceSeries
from hcp.stack import StackAddresses
from hcp.stack.ports import PORT_MAX, PORT_MIN, is_free

AGENTS: Final = ("fleet_monitor", "router", "resources", "billing")
SINKS: Final = ("operational", "live")
PRICE_USD: Final = 2.5
UNLIMITED: Final = "1000000"
QUOTA: Final = {"devices_max": 10**6, "spend_usd_micros_per_day_max": 10**15}


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Where it is, and one customer of it.

    Attributes:
        url: The gateway.
        bootstrap: Kafka.
        headers: Of a signed-in customer whose quota is never reached.
    """

    url: str
    bootstrap: str
    headers: dict[str, str]


@contextmanager
def platform(addresses: StackAddresses, folder: Path, *, fleet_file: Path) -> Iterator[Platform]:
    """Run it on a stack that nobody else uses; wait until all of it works and every GPU class has a price."""
    fleet = load_fleet(fleet_file)
    port = next(each for each in range(PORT_MAX, PORT_MIN, -1) if is_free(each))
    environment = {
        **settings_of(addresses),
        "HCP_FLEET_FILE": str(fleet_file.absolute()),
        "HCP_STATE_DIR": str(folder / "state"),
        "HCP_GATEWAY_PORT": str(port),
        **dict.fromkeys(("HCP_GATEWAY_READS_PER_S", "HCP_GATEWAY_WRITES_PER_S"), UNLIMITED),
    }
    ensure_topics(addresses.kafka_bootstrap)
    prepare(addresses.postgres_dsn, fleet)
    with ExitStack() as cleanup:
        children = Children(logs=folder / "logs", environment=environment)
        cleanup.callback(children.stop_all)
        for name in SINKS:
            children.start(f"sink-{name}", ["sink", name], ready="sink_ready")
        for name in AGENTS:
            children.start(f"agent-{name}", ["agent", name], ready="agent_ready")
        children.start("controller", ["controller"], ready="controller_ready")
        children.start("relay", ["relay"], ready="relay_ready")
        children.start("gateway", ["gateway"], ready="gateway_serves")
        children.wait_ready()
        children.start("simulate-fleet", ["simulate", "fleet"])
        send_prices(fleet, bootstrap=addresses.kafka_bootstrap)
        url = f"http://127.0.0.1:{port}"
        yield Platform(url=url, bootstrap=addresses.kafka_bootstrap, headers=sign_in(addresses.postgres_dsn, url))


def send_prices(fleet: Fleet, *, bootstrap: str) -> None:
    """Give every class of every site a price to rent for."""
    producer = RecordProducer(bootstrap=bootstrap, produced_by="bench")
    for site in fleet.facilities:
        for name in site.device_classes():
            series = PriceSeries.GPU_RENTAL
            producer.send(price(site, series, instrument=name, value=PRICE_USD, at_ms=wall_ms()))
    producer.close()


def sign_in(dsn: str, url: str) -> dict[str, str]:
    """Make a customer and sign in; return the header to send."""
    email, secret = f"{uuid4().hex}@example.com", new_secret()
    made = NewUser(email=email, secret=secret, kind=Kind.PERSON, role=Role.CUSTOMER, customer_name=email, **QUOTA)
    create_user(dsn, made)
    grant = {"grant_type": "password", "email": email, "password": secret}
    answer = httpx.post(f"{url}/api/v1/auth/token", json=grant, timeout=10.0)
    answer.raise_for_status()
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def fleet_with_cold(source: Path, to: Path, *, cold_count: int) -> Path:
    """Write a copy of the demo's fleet whose a100 cluster has so many devices, and mines."""
    shutil.copy(source, to)
    text = to.read_text(encoding="utf-8")
    before = 'clusters.gpu-2 = { device_class = "a100", device_count = 4, initial_mode = "ai_inference" }'
    assert before in text, "the demo's fleet must have its a100 cluster"
    after = before.replace("device_count = 4", f"device_count = {cold_count}").replace("ai_inference", "mining")
    to.write_text(text.replace(before, after), encoding="utf-8")
    return to
