"""Faust services: apps, tables, and one thin module a service: decode -> transform -> send."""

from typing import Final

AGENTS: Final = ("optimizer", "fleet_monitor", "orchestrator", "resources", "regret", "router", "billing")
