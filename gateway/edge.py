"""What every request passes: who calls, whether it may, whether it may now, and what its answer's headers say."""

import time
from collections.abc import MutableMapping
from typing import Any, Final

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import Counter, Histogram

from gateway.deps import Gateway
from gateway.limits import Limit
from gateway.principals import ADMITTED, Access, Principal
from gateway.problems import ProblemError
from gateway.tokens import TokenRefused
from gateway.tracing import REQUEST_ID_HEADER, header_of, request_id_of

ACCESS: Final = "access"
LIMIT: Final = "limit"
CALLER: Final = "hcp_caller"
_HEADERS: Final = "hcp_headers"
_STARTED: Final = "hcp_started"
_ROUTE: Final = "hcp_route"
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_ALWAYS: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "strict-transport-security": "max-age=31536000",
}

REQUESTS: Final = Counter("hcp_gateway_requests", "Requests answered.", ["route", "method", "status"])
SECONDS: Final = Histogram(
    "hcp_gateway_request_seconds",
    "Time to answer.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)


class Edge(ASGIMiddleware):
    """Signs callers in and counts their calls, by what the route asks for; a WebSocket signs in by itself."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Let a request through, or raise what it is refused with."""
        handler = scope["route_handler"]
        state: MutableMapping[str, Any] = scope  # type: ignore[assignment]  # our own keys ride along
        state[_STARTED] = time.perf_counter()
        state[_ROUTE] = str(handler)
        access = handler.opt.get(ACCESS, Access.SIGNED_IN)
        limit = handler.opt.get(LIMIT, Limit.READ)
        caller = None if access is Access.PUBLIC else self._signed_in(scope)
        await self._count(scope, limit, caller)
        if caller is not None:
            if caller.role not in ADMITTED[access]:
                raise ProblemError(403, "not_allowed", f"role must be {access.value} for this, was {caller.role.value}")
            state[CALLER] = caller
        _require_json(scope)
        await next_app(scope, receive, send)

    def _signed_in(self, scope: Scope) -> Principal:
        header = header_of(scope, b"authorization")
        challenge = {"www-authenticate": 'Bearer realm="hcp"'}
        if header is None or header[:7].lower() != "bearer ":
            raise ProblemError(401, "not_signed_in", "Authorization must be `Bearer <token>`", headers=challenge)
        return bearer(self._gateway, header[7:].strip())

    async def _count(self, scope: Scope, limit: Limit, caller: Principal | None) -> None:
        if limit is Limit.NONE:
            return
        name = caller.customer_id if caller is not None else origin_of(scope)
        granted = await self._gateway.limiter.take(limit, caller=name, route=str(scope["route_handler"].name))
        headers = granted.headers()
        state: MutableMapping[str, Any] = scope  # type: ignore[assignment]  # as above
        state[_HEADERS] = headers
        if not granted.is_allowed:
            raise ProblemError(429, "rate_limited", f"calls must come {headers['retry-after']} s later, came too soon")


def bearer(gateway: Gateway, token: str) -> Principal:
    """Return whose token it is.

    Raises:
        ProblemError: 401 when the token is refused; 503 when it is not known who was revoked.
    """
    if not gateway.revocations.is_current:
        raise ProblemError(503, "store_unavailable", "the database must answer, was away", headers={"retry-after": "1"})
    found = gateway.verifier.check(token)
    if isinstance(found, TokenRefused):
        challenge = {"www-authenticate": 'Bearer realm="hcp", error="invalid_token"'}
        raise ProblemError(401, "bad_token", found.reason, headers=challenge)
    return found


def origin_of(scope: Any) -> str:  # noqa: ANN401  # an ASGI scope of any kind
    """Return the caller's address; a proxy in front is one address, and limits logins by itself."""
    client = scope.get("client")
    return str(client[0]) if client and client[0] else "unknown"


def caller_of(scope: Any) -> Principal:  # noqa: ANN401  # as above
    """Return who calls a route that is not public."""
    caller = scope[CALLER]
    assert isinstance(caller, Principal)
    return caller


def _require_json(scope: Any) -> None:  # noqa: ANN401  # as above
    if scope["method"] not in _WITH_BODY:
        return
    media_type = (header_of(scope, b"content-type") or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ProblemError(415, "unsupported_media_type", "Content-Type must be application/json, was not")


async def before_send(message: Message, scope: Scope) -> None:
    """Put request id, limits and security headers on every answer, and count it."""
    if message["type"] != "http.response.start" or scope["type"] != ScopeType.HTTP:
        return
    state: MutableMapping[str, Any] = scope  # type: ignore[assignment]  # our own keys ride along
    headers = list(message["headers"])
    known = {name.lower() for name, _ in headers}
    wanted = {REQUEST_ID_HEADER: request_id_of(scope), **_ALWAYS, **state.get(_HEADERS, {})}
    if str(scope["path"]).startswith("/api/v1"):
        wanted.setdefault("cache-control", "no-store")
    headers += [(name.encode(), value.encode()) for name, value in wanted.items() if name.encode() not in known]
    message["headers"] = headers
    route = state.get(_ROUTE, "none")
    REQUESTS.labels(route, scope["method"], message["status"]).inc()
    if _STARTED in state:
        SECONDS.labels(route).observe(time.perf_counter() - state[_STARTED])
