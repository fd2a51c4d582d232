"""Signing in and out, who one is, and the keys that verify our tokens."""

from typing import Any, Final

from litestar import get, post
from litestar.params import JSONBody

from gateway.edge import caller_of, origin_of
from gateway.limits import Limit
from gateway.principals import Access
from gateway.problems import ProblemError
from gateway.quotas import USED
from gateway.records import Me, PasswordGrant, RefreshGrant, Revocation, ServiceGrant, Tokens
from gateway.routes.shared import SIGNED_IN, AnyRequest, Parts, errors, marked
from gateway.sessions import revoke, sign_in

_ME: Final = (
    "select user_id::text, email, role, kind, c.customer_id::text, c.name as customer_name, concurrent_devices_max, "
    "spend_usd_micros_per_day_max from users u join customers c using (customer_id) "
    "join quotas q using (customer_id) where user_id = %s"
)


@post(
    "/auth/token",
    name="sign_in",
    status_code=200,
    opt=marked(Access.PUBLIC, Limit.LOGIN),
    responses=errors(401, 413, 415),
)
async def token(data: JSONBody[PasswordGrant | RefreshGrant | ServiceGrant], gateway: Parts) -> Tokens:
    """Get an access token: with a password, a refresh token or a service's secret."""
    return await sign_in(gateway, data)


@post(
    "/auth/revoke",
    name="sign_out",
    status_code=204,
    opt=marked(Access.SIGNED_IN, Limit.WRITE),
    security=SIGNED_IN,
    responses=errors(401, 413, 415),
)
async def sign_out(data: JSONBody[Revocation], request: AnyRequest, gateway: Parts) -> None:
    """End a session: its tokens are void within a second, everywhere."""
    caller = caller_of(request.scope)
    session_id = caller.session_id if data.refresh_token is None else None
    origin = origin_of(request.scope)
    await revoke(gateway, session_id=session_id, refresh_token=data.refresh_token, caller=caller, origin=origin)


@get("/me", name="get_me", opt=marked(Access.SIGNED_IN, Limit.READ), security=SIGNED_IN, responses=errors(401))
async def me(request: AnyRequest, gateway: Parts) -> Me:
    """Who is signed in, with quotas and how much of them is used."""
    caller = caller_of(request.scope)
    row = await gateway.database.row(_ME, caller.user_id)
    used = await gateway.database.row(USED, caller.customer_id)
    if row is None or used is None:
        raise ProblemError(401, "bad_token", "user must still be there, was not")
    return Me(**row, concurrent_devices=used["devices"], spend_usd_micros_today=used["spend_usd_micros"])


@get("/.well-known/jwks.json", name="get_jwks", opt=marked(Access.PUBLIC, Limit.NONE))
async def jwks(gateway: Parts) -> dict[str, list[dict[str, Any]]]:
    """Return the public keys that verify access tokens (RFC 7517)."""
    return gateway.signing.ring().jwks()


HANDLERS: Final = [token, sign_out, me, jwks]
