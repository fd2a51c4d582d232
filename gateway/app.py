"""The ASGI application: routes, what every request passes, and the tasks that keep what handlers read fresh."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import structlog
from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import ScalarRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from redis.asyncio import Redis

from gateway.database import Database, make_pool
from gateway.deps import Gateway, GatewayConfig
from gateway.edge import Edge, before_send
from gateway.inference import Inference
from gateway.limits import Limit, RateLimiter, allowance_of
from gateway.live import Hub
from gateway.notifier import Notifier
from gateway.passwords import PasswordCheck
from gateway.principals import Access
from gateway.problems import HANDLERS
from gateway.revocations import KEPT, Revocations
from gateway.routes import account, billing, fleet, inference, live, operations, workloads
from gateway.routes.shared import marked
from gateway.signing import Signing
from gateway.tasks import end_all
from gateway.tokens import Verifier
from gateway.view import FleetView
from hcp.clock import Clock, wall_ms
from hcp.errors import StoreError
from hcp.model.facilities import Fleet

BODY_BYTES_MAX: Final = 64 * 1024
REDIS_SECONDS_MAX: Final = 1.0
ANALYTICS_MS_MAX: Final = 20_000
"""The first reading of the fleet goes through all that was ever reported."""
DESCRIPTION: Final = (
    "Submit workloads to HCP, follow them, see what they cost. Every error is a problem detail (RFC 9457). Sign in at "
    "`/api/v1/auth/token`, then send `Authorization: Bearer <token>`."
)


def make_gateway(config: GatewayConfig, fleet_: Fleet, *, clock: Clock = wall_ms) -> Gateway:
    """Make a process's parts; nothing connects yet.

    Raises:
        SettingsError: There is no signing key.
    """
    database = Database(pool=make_pool(config.postgres_dsn), name="database hcp")
    analytics = Database(
        pool=make_pool(config.timescale_dsn, statement_ms_max=ANALYTICS_MS_MAX, connections_max=6), name="TimescaleDB"
    )
    signing = Signing(folder=config.keys_dir)
    revocations = Revocations(database=database, clock=clock)
    redis = Redis.from_url(config.redis_url, socket_timeout=REDIS_SECONDS_MAX, socket_connect_timeout=REDIS_SECONDS_MAX)
    live_redis = Redis.from_url(config.redis_url, socket_connect_timeout=REDIS_SECONDS_MAX)
    allowances = {limit: allowance_of(rate) for limit, rate in config.rates_per_s.items()}
    return Gateway(
        config=config,
        clock=clock,
        database=database,
        analytics=analytics,
        redis=redis,
        limiter=RateLimiter(redis=redis, allowances=allowances, processes=config.processes, clock=clock),
        signing=signing,
        verifier=Verifier(keys=signing.ring, revocations=revocations, issuer=config.issuer, clock=clock),
        revocations=revocations,
        passwords=PasswordCheck(),
        notifier=Notifier(database=database),
        view=FleetView(database=analytics, clock=clock, fleet=fleet_),
        hub=Hub(redis=live_redis),
        inference=Inference(config=config.inference),
    )


@asynccontextmanager
async def _running(gateway: Gateway) -> AsyncIterator[None]:
    await gateway.database.pool.open()
    await gateway.analytics.pool.open()
    await gateway.inference.open()
    work: tuple[Coroutine[Any, Any, None], ...] = (
        gateway.revocations.watch(),
        gateway.signing.watch(gateway.verifier.forget),
        gateway.notifier.run(),
        gateway.view.watch(),
        gateway.hub.run(),
    )
    with suppress(StoreError):  # its watch says so, and until it is read nobody counts as signed in
        await gateway.revocations.refresh(since=KEPT)
    tasks = [asyncio.create_task(each) for each in work]
    for task in tasks:
        task.add_done_callback(_must_not_end)
    structlog.get_logger(__name__).info("gateway_serves")
    try:
        yield
    finally:
        await end_all(tasks)
        await gateway.inference.close()
        await gateway.redis.aclose()
        await gateway.hub.redis.aclose()
        await gateway.analytics.pool.close()
        await gateway.database.pool.close()


def _must_not_end(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        structlog.get_logger(__name__).error("gateway_task_ended", error=repr(task.exception()))


def make_app(gateway: Gateway) -> Litestar:
    """Return the application over a process's parts."""

    def provide() -> Gateway:
        return gateway

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        async with _running(gateway):
            yield

    api = Router(
        "/api/v1",
        route_handlers=[
            *workloads.HANDLERS,
            *inference.HANDLERS,
            *fleet.HANDLERS,
            *billing.HANDLERS,
            *account.HANDLERS,
            *live.HANDLERS,
        ],
    )
    return Litestar(
        route_handlers=[api, account.jwks, *operations.HANDLERS],
        middleware=[Edge(gateway)],
        dependencies={"gateway": Provide(provide, sync_to_thread=False)},
        exception_handlers=HANDLERS,
        before_send=[before_send],
        request_max_body_size=BODY_BYTES_MAX,
        lifespan=[lifespan],
        openapi_config=_openapi(),
        logging_config=None,
    )


def _openapi() -> OpenAPIConfig:
    bearer = SecurityScheme(type="http", scheme="bearer", bearer_format="JWT", description="From /api/v1/auth/token.")
    return OpenAPIConfig(
        title="HCP",
        version="1",
        description=DESCRIPTION,
        path="/api/docs",
        openapi_router=Router(
            "/api/docs", route_handlers=[], include_in_schema=False, opt=marked(Access.PUBLIC, Limit.NONE)
        ),
        render_plugins=[ScalarRenderPlugin()],
        create_examples=True,
        random_seed=1,
        components=Components(security_schemes={"bearer": bearer}),
    )
