"""What handlers are given: stores, checks and the clock, made once per process; and the tasks that keep them fresh."""

from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from gateway.database import Database
from gateway.inference import NO_SERVERS, Inference, InferenceConfig
from gateway.limits import Limit, RateLimiter
from gateway.live import Hub
from gateway.notifier import Notifier
from gateway.passwords import PasswordCheck
from gateway.revocations import Revocations
from gateway.signing import Signing
from gateway.tokens import Verifier
from gateway.view import FleetView
from hcp.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """What the gateway is told: a part of the settings.

    Attributes:
        postgres_dsn: Database `hcp`.
        timescale_dsn: Database `hcp_analytics`.
        redis_url: Rate limits and live updates.
        issuer: `iss` of the tokens.
        keys_dir: Signing keys.
        processes: How many share the port, and the rates while Redis is away.
        rates_per_s: Steady calls a second by kind of route.
        inference: Where inference servers are.
    """

    postgres_dsn: str
    timescale_dsn: str
    redis_url: str
    issuer: str
    keys_dir: Path
    processes: int
    rates_per_s: dict[Limit, float]
    inference: InferenceConfig = NO_SERVERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """One process's parts."""

    config: GatewayConfig
    clock: Clock
    database: Database
    analytics: Database
    redis: "Redis"
    limiter: RateLimiter
    signing: Signing
    verifier: Verifier
    revocations: Revocations
    passwords: PasswordCheck
    notifier: Notifier
    view: FleetView
    hub: Hub
    inference: Inference
