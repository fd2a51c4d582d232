"""What a stack is made of, as values: services, ports, addresses, what is installed and what runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hcp.errors import StackError

Progress = Callable[[str], None]
"""Receives one line of what is being done, for a person to read."""


class Service(StrEnum):
    """The embedded services, in the order in which they are shown."""

    KAFKA = "kafka"
    TIMESCALEDB = "timescaledb"
    REDIS = "redis"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackAddresses:
    """Where a stack's services listen; what the rest of HCP is pointed at."""

    kafka_bootstrap: str
    timescale_dsn: str
    redis_url: str

    @property
    def postgres_dsn(self) -> str:
        """Return where the gateway's database is: in the same server as TimescaleDB."""
        return f"{self.timescale_dsn.rpartition('/')[0]}/hcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The TCP ports on 127.0.0.1 of one stack."""

    kafka: int
    kafka_controller: int
    timescaledb: int
    redis: int

    def of(self, service: Service) -> int:
        """Return the port on which clients reach `service`."""
        return {Service.KAFKA: self.kafka, Service.TIMESCALEDB: self.timescaledb, Service.REDIS: self.redis}[service]

    def addresses(self) -> StackAddresses:
        """Return the clients' addresses."""
        return StackAddresses(
            kafka_bootstrap=f"127.0.0.1:{self.kafka}",
            timescale_dsn=f"postgresql://postgres@127.0.0.1:{self.timescaledb}/hcp_analytics",
            redis_url=f"redis://127.0.0.1:{self.redis}/0",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedPorts:
    """Ports asked for explicitly; None lets the stack choose a free one."""

    kafka: int | None = None
    timescaledb: int | None = None
    redis: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The services' programs on this machine."""

    java: Path
    java_version: str
    kafka_libs: Path
    prefix: Path
    """Holds Debian's PostgreSQL, TimescaleDB and Redis with the C library they were built for."""
    versions: Mapping[str, str]
    """Version by package: kafka, postgresql-17, postgresql-17-timescaledb, redis-server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthy:
    """A service answered a real request of its own protocol."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhealthy:
    """A service did not answer, or not with what it should."""

    reason: str


Health = Healthy | Unhealthy


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """One service of a stack, as seen now."""

    service: Service
    port: int
    pid: int | None
    """None when no process of this stack runs it."""
    restarts: int
    health: Health
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStatus:
    """One stack, as seen now."""

    name: str
    directory: Path
    supervisor_pid: int | None
    """None when the stack does not run."""
    owner_pid: int | None
    """The process with which an attached stack ends; None for a detached one."""
    addresses: StackAddresses | None
    """None for a stack that was never started."""
    services: tuple[ServiceStatus, ...]
    versions: Mapping[str, str]
    failure: str | None
    """Why it ended by itself the last time."""

    @property
    def is_running(self) -> bool:
        """Whether the supervisor lives."""
        return self.supervisor_pid is not None

    @property
    def is_healthy(self) -> bool:
        """Whether it runs and every service answers."""
        return self.is_running and all(isinstance(service.health, Healthy) for service in self.services)


class HalfInstalledError(StackError):
    """Files that an installation left behind are not all there."""
