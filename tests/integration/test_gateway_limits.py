"""Rate limits on real Redis: no grant too many under concurrency, headers, and what happens while Redis is away."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from gateway.limits import Allowance, Limit, RateLimiter
from hcp.clock import wall_ms
from hcp.stack import StackAddresses
from tests.gateway_lab import NOWHERE, Lab, client_of, gateway_lab, signed_in

pytestmark = pytest.mark.services

CLIENTS = 50
CALLS = 4
BURST = 20
SLOW = {Limit.READ: Allowance(rate_per_s=1e-4, burst=BURST)}
"""Earns nothing while a test runs: grants are the burst, exactly."""


@pytest.fixture(scope="module")
def lab(services: StackAddresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Give one gateway's databases to the module."""
    with gateway_lab(services, tmp_path_factory.mktemp("gateway")) as made:
        yield made


def _limiter(url: str, processes: int = 1) -> RateLimiter:
    redis = Redis.from_url(url, socket_timeout=5.0, socket_connect_timeout=1.0)
    return RateLimiter(redis=redis, allowances=SLOW, processes=processes, clock=wall_ms)


async def _granted(limiters: list[RateLimiter], key: str) -> int:
    async def client(number: int) -> int:
        limiter = limiters[number % len(limiters)]
        taken = [await limiter.take(Limit.READ, caller=key, route="test") for _ in range(CALLS)]
        return sum(each.is_allowed for each in taken)

    granted = sum(await asyncio.gather(*(client(number) for number in range(CLIENTS))))
    for limiter in limiters:
        await limiter.redis.aclose()
    return granted


async def test_fifty_clients_at_once_get_exactly_the_burst(services: StackAddresses) -> None:
    """Two gateways, fifty clients, two hundred calls: not one grant more or less than allowed."""
    limiters = [_limiter(services.redis_url) for _ in range(2)]
    for limiter in limiters:  # the first call connects; a slow machine must not take that for an outage
        await limiter.redis.ping()
    assert await _granted(limiters, uuid4().hex) == BURST
    assert not any(limiter.is_degraded for limiter in limiters)


async def test_without_redis_all_processes_together_grant_no_more() -> None:
    """Each of two keeps half: an outage neither refuses everybody nor lifts the limit."""
    limiters = [_limiter(NOWHERE, processes=2) for _ in range(2)]
    assert await _granted(limiters, uuid4().hex) == BURST
    assert all(limiter.is_degraded for limiter in limiters)


async def test_answers_say_what_is_left_and_when_to_come_back(lab: Lab) -> None:
    """Calls beyond the burst are 429 with Retry-After; another customer and another route are not affected."""
    slow = lab.with_rates(read=1e-4)
    async with client_of(slow) as (client, _):
        one, other = await signed_in(client, lab.user()), await signed_in(client, lab.user())
        first = await client.get("/api/v1/profitability", headers=one)
        second = await client.get("/api/v1/profitability", headers=one)
        elsewhere = await client.get("/api/v1/me", headers=one)
        stranger = await client.get("/api/v1/profitability", headers=other)
    assert [each.status_code for each in (first, second, elsewhere, stranger)] == [200, 429, 200, 200]
    assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == ("1", "0")
    assert int(second.headers["retry-after"]) > 60
    assert second.json()["type"] == "urn:hcp:problem:rate_limited"


async def test_the_gateway_works_while_redis_is_away(lab: Lab) -> None:
    """Requests are answered, limits are kept by process, and readiness says that it is degraded."""
    alone = replace(lab, config=replace(lab.config, redis_url=NOWHERE)).with_rates(read=1e-4)
    async with client_of(alone) as (client, _):
        headers = await signed_in(client, lab.user())
        answers = [await client.get("/api/v1/profitability", headers=headers) for _ in range(2)]
        ready = await client.get("/ready")
    assert [each.status_code for each in answers] == [200, 429]
    assert (ready.status_code, ready.json()["status"], ready.json()["checks"]["redis"]) == (200, "degraded", "away")
