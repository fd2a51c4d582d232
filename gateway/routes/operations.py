"""For those who run the gateway: is it alive, can it work, what does it measure."""

from collections.abc import Awaitable
from typing import Any, Final

from litestar import Response, get
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError

from gateway.limits import Limit
from gateway.principals import Access
from gateway.records import Health
from gateway.routes.shared import Parts, marked
from hcp.errors import StoreError

_OPEN: Final = marked(Access.PUBLIC, Limit.NONE)
_OWED: Final = (
    "select coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as oldest_s from outbox "
    "where published_at is null"
)
NEEDED: Final = ("postgres",)
"""Without it nothing can be answered; without the others some routes say 503 or limits are kept by process."""


@get("/health", name="get_health", opt=_OPEN)
async def health() -> Health:
    """Whether the process lives."""
    return Health(status="ok")


@get("/ready", name="get_ready", opt=_OPEN)
async def ready(gateway: Parts) -> Response[Health]:
    """Whether what it needs answers: 503 takes the process out of its load balancer."""
    checks = {
        "postgres": await _word(gateway.database.rows("select 1 as one")),
        "timescale": await _word(gateway.analytics.rows("select 1 as one")),
        "redis": await _word(gateway.redis.ping()),
    }
    if checks["postgres"] == "ok":
        owed = await gateway.database.row(_OWED)
        checks["outbox_oldest_s"] = f"{0.0 if owed is None else owed['oldest_s']:.1f}"
    is_ready = all(checks[name] == "ok" for name in NEEDED)
    status = ("ok" if "away" not in checks.values() else "degraded") if is_ready else "unavailable"
    return Response(Health(status=status, checks=checks), status_code=200 if is_ready else 503)


async def _word(question: Awaitable[Any]) -> str:
    try:
        await question
    except (StoreError, RedisError, OSError):
        return "away"
    return "ok"


@get("/metrics", name="get_metrics", opt=_OPEN, include_in_schema=False)
async def metrics() -> Response[bytes]:
    """Prometheus metrics of this process."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


HANDLERS: Final = [health, ready, metrics]
