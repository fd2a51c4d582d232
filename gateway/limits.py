"""Rate limits per customer and route: the generic cell rate algorithm, one atomic script in Redis."""

import asyncio
import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from hcp.clock import Clock
from hcp.model.units import MS_PER_SECOND

ANSWER_SECONDS_MAX: Final = 1.0
RETRY_REDIS_MS: Final = 1_000
"""Redis that did not answer is not asked again for this long: no request waits for it."""
LOCAL_KEYS_MAX: Final = 100_000

# Redis runs a script as one step and by its own clock, so that processes and hosts with other clocks agree.
# A call is allowed when its theoretical arrival time lies at most the burst's worth ahead of now.
SCRIPT: Final = """
local interval_us, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local arrival_us = math.max(tonumber(redis.call('GET', KEYS[1]) or now_us), now_us)
local tolerance_us = interval_us * (burst - 1)
if arrival_us - now_us > tolerance_us then
  return {0, 0, math.ceil(arrival_us - now_us - tolerance_us), math.ceil(arrival_us - now_us)}
end
arrival_us = arrival_us + interval_us
local ahead_us = arrival_us - now_us
redis.call('SET', KEYS[1], string.format('%.0f', arrival_us), 'PX', math.ceil(ahead_us / 1000))
return {1, math.floor((burst * interval_us - ahead_us) / interval_us), 0, math.ceil(ahead_us)}
"""
_US_PER_S: Final = 1_000_000


class Limit(StrEnum):
    """Which allowance a route draws on."""

    READ = "read"
    WRITE = "write"
    LOGIN = "login"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What is allowed: a steady rate and how much may come at once.

    Attributes:
        rate_per_s: Above 0.
        burst: Calls that may come at once after a pause, 1 or more.
    """

    rate_per_s: float
    burst: int


def allowance_of(rate_per_s: float) -> Allowance:
    """Return an allowance whose burst is two seconds' worth."""
    return Allowance(rate_per_s=rate_per_s, burst=max(1, math.ceil(2 * rate_per_s)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What became of one call.

    Attributes:
        is_allowed: Whether it may proceed.
        limit: The burst.
        remaining: Calls that may follow at once.
        retry_after_s: Seconds until a call is allowed again; 0 when this one is.
        reset_s: Seconds until the whole burst is there again.
    """

    is_allowed: bool
    limit: int
    remaining: int
    retry_after_s: float
    reset_s: float

    def headers(self) -> dict[str, str]:
        """Return the `RateLimit-*` headers (IETF draft, as widely deployed) and, when refused, `Retry-After`."""
        made = {
            "ratelimit-limit": str(self.limit),
            "ratelimit-remaining": str(self.remaining),
            "ratelimit-reset": str(math.ceil(self.reset_s)),
        }
        if not self.is_allowed:
            made["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        return made


def gcra(*, arrival_us: int, now_us: int, allowance: Allowance) -> tuple[int, Granted]:
    """Decide as the script does; return the new theoretical arrival time and the outcome."""
    interval_us = _US_PER_S / allowance.rate_per_s
    arrival_us = max(arrival_us, now_us)
    over_us = arrival_us - now_us - interval_us * (allowance.burst - 1)
    is_allowed = over_us <= 0
    if is_allowed:
        arrival_us += round(interval_us)
    ahead_us = arrival_us - now_us
    remaining = int((allowance.burst * interval_us - ahead_us) / interval_us) if is_allowed else 0
    return arrival_us, Granted(
        is_allowed=is_allowed,
        limit=allowance.burst,
        remaining=remaining,
        retry_after_s=max(0.0, over_us / _US_PER_S),
        reset_s=ahead_us / _US_PER_S,
    )


@dataclass(slots=True, kw_only=True)
class RateLimiter:
    """Asks Redis; while it is away, each process keeps its own share of every allowance.

    So an outage of Redis refuses nobody who keeps within the share, and all processes together grant no more than Redis
    would have: `processes` of them share the rate.
    """

    redis: "Redis"
    allowances: dict[Limit, Allowance]
    processes: int
    clock: Clock
    _arrivals_us: dict[str, int] = field(default_factory=dict)
    _away_until_ms: int = 0
    _script: Any = None

    @property
    def is_degraded(self) -> bool:
        """Whether the last question to Redis went unanswered."""
        return self._away_until_ms > 0

    async def take(self, limit: Limit, *, caller: str, route: str) -> Granted:
        """Count one call of a caller to a route."""
        allowance = self.allowances[limit]
        key = f"hcp:limit:{limit.value}:{route}:{caller}"
        if self.clock() >= self._away_until_ms:
            try:
                granted = await asyncio.wait_for(self._ask(key, allowance), ANSWER_SECONDS_MAX)
            except (RedisError, TimeoutError, OSError) as error:
                self._note_away(error)
            else:
                self._note_back()
                return granted
        return self._local(key, allowance)

    async def _ask(self, key: str, allowance: Allowance) -> Granted:
        if self._script is None:
            self._script = self.redis.register_script(SCRIPT)
        interval_us = _US_PER_S / allowance.rate_per_s
        is_allowed, remaining, retry_us, reset_us = await self._script(keys=[key], args=[interval_us, allowance.burst])
        return Granted(
            is_allowed=bool(is_allowed),
            limit=allowance.burst,
            remaining=int(remaining),
            retry_after_s=retry_us / _US_PER_S,
            reset_s=reset_us / _US_PER_S,
        )

    def _local(self, key: str, allowance: Allowance) -> Granted:
        share = Allowance(
            rate_per_s=allowance.rate_per_s / self.processes, burst=max(1, allowance.burst // self.processes)
        )
        if len(self._arrivals_us) >= LOCAL_KEYS_MAX:
            self._arrivals_us.clear()
        now_us = self.clock() * (_US_PER_S // MS_PER_SECOND)
        self._arrivals_us[key], granted = gcra(arrival_us=self._arrivals_us.get(key, 0), now_us=now_us, allowance=share)
        return granted

    def _note_away(self, error: Exception) -> None:
        if not self.is_degraded:
            structlog.get_logger(__name__).warning("rate_limits_local", error=str(error) or type(error).__name__)
        self._away_until_ms = self.clock() + RETRY_REDIS_MS

    def _note_back(self) -> None:
        if self.is_degraded:
            structlog.get_logger(__name__).info("rate_limits_shared")
            self._away_until_ms = 0
            self._arrivals_us.clear()
