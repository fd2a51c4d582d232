"""A gateway over databases of a test's own: in this process by its ASGI interface, or as the process that it is."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
from litestar import Litestar
from litestar.testing import AsyncTestClient

from gateway.accounts import NewUser, create_user
from gateway.app import make_app, make_gateway
from gateway.deps import Gateway, GatewayConfig
from gateway.keys import ensure_keys
from gateway.limits import Limit
from gateway.migrations import prepare
from gateway.principals import Kind, Role
from hcp.fleet import load_fleet
from hcp.stack import StackAddresses
from sinks.timescale.migrations import migrate
from tests.sink_process import Database, fresh_database, wait_until

ROOT: Final = Path(__file__).resolve().parents[1]
FLEET: Final = load_fleet(ROOT / "fleet.demo.toml")
PASSWORD: Final = "correct horse battery staple"  # noqa: S105  # of users that live for a test
ISSUER: Final = "https://gateway.test"
NOWHERE: Final = "redis://127.0.0.1:1/0"
UNLIMITED_PER_S: Final = 1e6
STOP_SECONDS: Final = 90.0
VIEW_LOOKS_MAX: Final = 400

Client = AsyncTestClient[Litestar]


def body_of(**changes: Any) -> dict[str, Any]:
    """Return a workload that may be submitted, with other requirements."""
    wants = {"device_class": "h100", "price_usd_micros_per_device_hour_max": 4_000_000, **changes}
    return {"workload_type": "inference_interactive", "requirements": wants}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """Databases, keys and users of one test module."""

    services: StackAddresses
    operational: Database
    analytics: Database
    config: GatewayConfig

    def user(
        self,
        *,
        role: Role = Role.CUSTOMER,
        kind: Kind = Kind.PERSON,
        customer: str = "",
        quota: Mapping[str, int] | None = None,
    ) -> str:
        """Make a user, by default of a customer of its own; return its email."""
        email = f"{uuid4().hex}@example.com"
        made = NewUser(
            email=email, secret=PASSWORD, kind=kind, role=role, customer_name=customer or uuid4().hex, **(quota or {})
        )
        create_user(self.operational.dsn, made)
        return email

    def with_rates(self, **rates: float) -> "Lab":
        """Return the same lab whose gateways have these rates."""
        limits = {**self.config.rates_per_s, **{Limit(name): rate for name, rate in rates.items()}}
        return replace(self, config=replace(self.config, rates_per_s=limits))


@contextmanager
def gateway_lab(services: StackAddresses, folder: Path) -> Iterator[Lab]:
    """Give databases of a test's own, migrated, and keys; drop them afterwards."""
    with fresh_database(services) as analytics, fresh_database(services) as operational:
        migrate(analytics.dsn)
        prepare(operational.dsn, FLEET)
        ensure_keys(folder / "keys")
        config = GatewayConfig(
            postgres_dsn=operational.dsn,
            timescale_dsn=analytics.dsn,
            redis_url=services.redis_url,
            issuer=ISSUER,
            keys_dir=folder / "keys",
            processes=1,
            rates_per_s=dict.fromkeys((Limit.READ, Limit.WRITE, Limit.LOGIN), UNLIMITED_PER_S),
        )
        yield Lab(services=services, operational=operational, analytics=analytics, config=config)


@asynccontextmanager
async def client_of(lab: Lab) -> AsyncIterator[tuple[Client, Gateway]]:
    """Run a gateway in this process and lend a client."""
    gateway = make_gateway(lab.config, FLEET)
    async with AsyncTestClient(make_app(gateway)) as client:
        yield client, gateway


async def refreshed(gateway: Gateway) -> None:
    """Wait until the gateway's own loop has read the fleet anew."""
    asked_ms = gateway.clock()
    for _ in range(VIEW_LOOKS_MAX):
        if (gateway.view.as_of_ms or 0) > asked_ms:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the view must be read again")


async def signed_in(client: Client, email: str) -> dict[str, str]:
    """Sign in; return the header to send."""
    grant = {"grant_type": "password", "email": email, "password": PASSWORD}
    answer = await client.post("/api/v1/auth/token", json=grant)
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


def keyed(headers: dict[str, str], key: str | None = None) -> dict[str, str]:
    """Return headers with an Idempotency-Key, by default a new one."""
    return {**headers, "idempotency-key": key or uuid4().hex}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayProcess:
    """`hcp gateway`, running."""

    process: "subprocess.Popen[bytes]"
    log: Path
    url: str

    def sign_in(self, email: str) -> dict[str, str]:
        """Sign in; return the header to send."""
        grant = {"grant_type": "password", "email": email, "password": PASSWORD}
        answer = httpx.post(f"{self.url}/api/v1/auth/token", json=grant, timeout=60.0)
        assert answer.status_code == 200, answer.text
        return {"authorization": f"Bearer {answer.json()['access_token']}"}


def environment_of(lab: Lab, **extra: str) -> dict[str, str]:
    """Return what a process of this lab is told."""
    return {
        **os.environ,  # noqa: TID251  # for a child process
        "HCP_POSTGRES_DSN": lab.config.postgres_dsn,
        "HCP_TIMESCALE_DSN": lab.config.timescale_dsn,
        "HCP_REDIS_URL": lab.config.redis_url,
        "HCP_KAFKA_BOOTSTRAP": lab.services.kafka_bootstrap,
        "HCP_GATEWAY_ISSUER": lab.config.issuer,
        "HCP_GATEWAY_KEYS_DIR": str(lab.config.keys_dir),
        "HCP_GATEWAY_READS_PER_S": str(lab.config.rates_per_s[Limit.READ]),
        "HCP_GATEWAY_WRITES_PER_S": str(lab.config.rates_per_s[Limit.WRITE]),
        "HCP_GATEWAY_LOGINS_PER_S": str(lab.config.rates_per_s[Limit.LOGIN]),
        "HCP_FLEET_FILE": str(ROOT / "fleet.demo.toml"),
        "HCP_LOG_FORMAT": "json",
        **extra,
    }


@contextmanager
def running(lab: Lab, folder: Path, *arguments: str, **extra: str) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Run an `hcp` process for the length of a `with` block; SIGTERM must end it with 0 unless the test killed it."""
    log = folder / f"{arguments[0]}-{uuid4().hex}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "hcp", *arguments],
            env=environment_of(lab, **extra),
            cwd=ROOT,
            stdout=stream,
            stderr=stream,
        )
    try:
        yield process, log
        if process.poll() is None:
            process.terminate()
            assert process.wait(timeout=STOP_SECONDS) == 0, log.read_text(encoding="utf-8")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=STOP_SECONDS)


def free_port() -> int:
    """Return a port on 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def gateway_process(lab: Lab, folder: Path, **extra: str) -> Iterator[GatewayProcess]:
    """Run `hcp gateway` on a free port and wait until it answers."""
    port = free_port()
    with running(lab, folder, "gateway", HCP_GATEWAY_PORT=str(port), **extra) as (process, log):
        made = GatewayProcess(process=process, log=log, url=f"http://127.0.0.1:{port}")

        def answers() -> bool:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            try:
                return httpx.get(f"{made.url}/ready", timeout=2.0).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, "the gateway answers")
        yield made


@contextmanager
def relay_process(lab: Lab, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `hcp relay` and wait until it works."""
    with running(lab, folder, "relay") as (process, log):

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            return "relay_ready" in log.read_text(encoding="utf-8")

        wait_until(is_ready, "the relay works")
        yield process
