"""Embedded Kafka, TimescaleDB and Redis: real services as local processes, for a laptop and for tests."""

from hcp.stack.install import default_cache_dir, install
from hcp.stack.running import running_stack, stacks_in
from hcp.stack.stack import DATABASE_MEMORY_MB, Stack
from hcp.stack.values import (
    Health,
    Healthy,
    Installed,
    Ports,
    Progress,
    Service,
    ServiceStatus,
    StackAddresses,
    StackStatus,
    Unhealthy,
    WantedPorts,
)

__all__ = [
    "DATABASE_MEMORY_MB",
    "Health",
    "Healthy",
    "Installed",
    "Ports",
    "Progress",
    "Service",
    "ServiceStatus",
    "Stack",
    "StackAddresses",
    "StackStatus",
    "Unhealthy",
    "WantedPorts",
    "default_cache_dir",
    "install",
    "running_stack",
    "stacks_in",
]
