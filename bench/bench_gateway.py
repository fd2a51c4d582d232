"""The gateway's routes with auth, limits and database on, against a bare route of the same server; and its fan-out.

Run: `.venv/bin/python bench/bench_gateway.py [requests]` (starts a stack of its own). The load runs here, on the
same machine: it takes its share of the cores, of the bare route too. Limits are on and counted, set so high that none
is reached. Submissions come from as many customers as there are connections: those of one customer take turns, since
each is weighed against the quota with what committed before it.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Final
from urllib.parse import urlsplit

import psycopg
from redis import Redis

from bench.http_load import Listener, Load, load, request_of
from bench.report import machine, show, table
from gateway.live import CHANNEL
from gateway.principals import Role
from hcp.kafka.admin import ensure_topics
from hcp.settings import load_settings
from hcp.stack import default_cache_dir, running_stack
from tests.gateway_lab import GatewayProcess, Lab, body_of, gateway_lab, gateway_process, relay_process
from tests.sink_process import wait_until

REQUESTS: Final = 2_000
CONNECTIONS: Final = 50
WARM_UP: Final = 200
CLIENTS: Final = 1_000
MESSAGES: Final = 50
OPEN_AT_ONCE: Final = 50
PACED: Final = 300
PACED_WARM_UP: Final = 50
PACE_SECONDS: Final = 0.02
SEED_MS: Final = {
    "GET workloads": "12/28/45",
    "GET resources": "8/18/32",
    "GET profitability": "6/12/22",
    "POST workloads": "35/68/120",
    "POST route": "42/85/142",
}
SEED_SUBMISSIONS_PER_S: Final = 5_000
SEED_FRAMES_PER_S: Final = 50_000
ROOMY: Final = {"devices_max": 10**6, "spend_usd_micros_per_day_max": 10**15}


def _p50_p95_p99(values: list[float]) -> tuple[float, float, float]:
    cuts = quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]


def routes(headers: dict[str, str], customers: list[dict[str, str]]) -> dict[str, Callable[[int], bytes]]:
    """Return what to send to each route, by number of the request; submissions are the customers'."""
    body = json.dumps(body_of(run_seconds_max=1)).encode()
    with_body = {**headers, "content-type": "application/json"}
    bare = request_of("GET", "/health", {})
    fixed = {
        "GET workloads": request_of("GET", "/api/v1/workloads?limit=20", headers),
        "GET resources": request_of("GET", "/api/v1/resources?limit=20", headers),
        "GET profitability": request_of("GET", "/api/v1/profitability", headers),
        "POST route": request_of("POST", "/api/v1/route", with_body, body),
    }

    def submission(number: int) -> bytes:
        key = {"idempotency-key": f"bench-{time.time_ns()}-{number}"}
        mine = {**with_body, **customers[number % len(customers)], **key}
        return request_of("POST", "/api/v1/workloads", mine, body)

    made: dict[str, Callable[[int], bytes]] = {"bare": lambda _: bare, "POST workloads": submission}
    return made | {name: (lambda _, text=text: text) for name, text in fixed.items()}


async def _measure(
    port: int, headers: dict[str, str], customers: list[dict[str, str]], requests: int
) -> dict[str, Load]:
    found = {}
    for name, make in routes(headers, customers).items():
        await load(port, make, connections=CONNECTIONS, requests=WARM_UP)
        found[name] = await load(port, make, connections=CONNECTIONS, requests=requests)
    return found


async def _fan_out(port: int, headers: dict[str, str], redis_url: str) -> tuple[float, int]:
    """Return the seconds from the first publication to the last byte, and the frames heard."""
    listeners: list[Listener] = []
    for _ in range(CLIENTS // OPEN_AT_ONCE):
        opened = (Listener.open(port, "/api/v1/live", headers) for _ in range(OPEN_AT_ONCE))
        listeners += await asyncio.gather(*opened)
    for each in listeners:
        await each.frame()
        each.say('{"action":"subscribe","topics":["prices"]}')
    for each in listeners:
        await each.frame()
    redis = Redis.from_url(redis_url)
    made = [
        json.dumps({"id": f"1795000000000-{n:04d}", "topic": "market.price", "data": {"n": "x" * 64}})
        for n in range(MESSAGES)
    ]
    length = len(made[0]) - 1 + len('{"type":"event","subscription":"prices",')
    began = time.perf_counter()
    counting = [asyncio.create_task(each.count(length, MESSAGES)) for each in listeners]
    for text in made:
        await asyncio.to_thread(redis.publish, f"{CHANNEL}:prices", text)
    heard = sum(await asyncio.gather(*counting))
    seconds = time.perf_counter() - began
    for each in listeners:
        each.close()
    return seconds, heard


async def _paced(port: int, headers: dict[str, str], submissions: int) -> None:
    make = routes(headers, [headers])["POST workloads"]
    for _ in range(submissions):
        await load(port, make, connections=1, requests=1)
        await asyncio.sleep(PACE_SECONDS)


def _lag(lab: Lab, port: int, headers: dict[str, str]) -> tuple[float, float]:
    """Return p50 and p99 of the ms from a row's insert to its mark as published, of rows submitted one by one."""
    for submissions in (PACED_WARM_UP, PACED):
        with psycopg.connect(lab.operational.dsn) as connection:
            connection.execute("truncate outbox")
        asyncio.run(_paced(port, headers, submissions))
        wait_until(lambda: lab.operational.count("outbox where published_at is null") == 0, "all is paid")
    rows = lab.operational.ask(
        "select percentile_cont(array[0.5, 0.99]) within group "
        "(order by extract(epoch from published_at - created_at) * 1000) as ms from outbox"
    )
    p50_ms, p99_ms = rows[0]["ms"]
    return float(p50_ms), float(p99_ms)


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("requests", type=int, nargs="?", default=REQUESTS, help=f"a route; default {REQUESTS}")
    return made


def _show(found: dict[str, Load], fan_out: tuple[float, int], lag_ms: tuple[float, float]) -> None:
    bare_ms = _p50_p95_p99(found["bare"].taken_ms)[0]
    made = table(
        "gateway, 50 connections", "route", "p50 ms", "p95", "p99", "p50 / bare", "a second", "refused", "seed ms"
    )
    for name, each in found.items():
        p50, p95, p99 = _p50_p95_p99(each.taken_ms)
        cells = (
            f"{p50:.1f}",
            f"{p95:.1f}",
            f"{p99:.1f}",
            f"{p50 / bare_ms:.2f}",
            f"{each.per_second:,.0f}",
            str(each.refused),
        )
        made.add_row(name, *cells, SEED_MS.get(name, ""))
    seconds, heard = fan_out
    share = found["POST workloads"].per_second / SEED_SUBMISSIONS_PER_S
    frames = heard / seconds
    show(
        machine(),
        made,
        f"submissions: {share:.2f} of the seed's {SEED_SUBMISSIONS_PER_S:,} a second",
        f"fan-out: {heard:,} frames to {CLIENTS:,} clients, {frames:,.0f} a second, "
        f"{frames / SEED_FRAMES_PER_S:.2f} of the seed's {SEED_FRAMES_PER_S:,}",
        f"outbox row to its mark as acknowledged, one by one: p50 {lag_ms[0]:.1f}, p99 {lag_ms[1]:.1f} ms (limit 20)",
    )


def _run(lab: Lab, served: GatewayProcess, folder: Path, requests: int) -> None:
    port = urlsplit(served.url).port
    assert port is not None
    headers = served.sign_in(lab.user(role=Role.ADMIN, quota=ROOMY))
    with relay_process(lab, folder):
        lag_ms = _lag(lab, port, headers)
    customers = [served.sign_in(lab.user(quota=ROOMY)) for _ in range(CONNECTIONS)]
    found = asyncio.run(_measure(port, headers, customers, requests))
    _show(found, asyncio.run(_fan_out(port, headers, lab.config.redis_url)), lag_ms)


def main() -> None:
    """Measure and print one table."""
    requests = parser().parse_args().requests
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        cache_dir = default_cache_dir(load_settings().cache_dir)
        with running_stack(folder / "stack", cache_dir, keep=False) as addresses:
            ensure_topics(addresses.kafka_bootstrap)
            with gateway_lab(addresses, folder) as lab, gateway_process(lab, folder) as served:
                _run(lab, served, folder, requests)


if __name__ == "__main__":
    main()
