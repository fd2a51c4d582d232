"""Signing in and out: passwords and secrets for tokens, refresh tokens that work once, revocation."""

import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from uuid import uuid4

from gateway.database import Connection, Row
from gateway.deps import Gateway
from gateway.outbox import audit_of, owe
from gateway.principals import Kind, Principal, Role
from gateway.problems import ProblemError
from gateway.records import PasswordGrant, RefreshGrant, ServiceGrant, Tokens
from gateway.tokens import ACCESS_SECONDS, issue
from hcp.model.units import MS_PER_SECOND

REFRESH_DAYS: Final = 14
SCHEME: Final = "Bearer"
HERE: Final = "gateway"
"""Origin of what the gateway does by itself."""
_USER: Final = (
    "select user_id::text, customer_id::text, email, kind, role, password_hash, is_disabled from users where email = %s"
)
_SESSION: Final = (
    "select u.user_id::text, u.customer_id::text, u.email, u.kind, u.role, u.is_disabled, "
    "t.session_id::text, t.used_at, t.expires_at < now() as is_expired "
    "from refresh_tokens t join users u using (user_id) "
    "where t.token_hash = %s for update of t"
)
_REVOKE: Final = "insert into revocations (subject) values (%s)"


def _refused() -> ProblemError:
    return ProblemError(
        401, "bad_credentials", "email and password, or the token, must be right and in force, were not"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """A user and the session it is in."""

    user: Row
    session_id: str


async def sign_in(gateway: Gateway, grant: PasswordGrant | RefreshGrant | ServiceGrant) -> Tokens:
    """Return tokens for a grant.

    Raises:
        ProblemError: 401; something is wrong, and the answer does not tell what.
    """
    match grant:
        case PasswordGrant():
            user = await _checked(gateway, grant.email, grant.password, Kind.PERSON)
            return await _begin(gateway, user)
        case ServiceGrant():
            user = await _checked(gateway, grant.client_id, grant.client_secret, Kind.SERVICE)
            return _tokens(gateway, _Session(user=user, session_id=str(uuid4())), refresh_token=None)
        case RefreshGrant():
            return await _go_on(gateway, grant.refresh_token)


async def _checked(gateway: Gateway, email: str, password: str, kind: Kind) -> Row:
    user = await gateway.database.row(_USER, email.lower())
    is_right = await gateway.passwords.is_right(password, None if user is None else user["password_hash"])
    if user is None or not is_right or user["is_disabled"] or user["kind"] != kind.value:
        raise _refused()
    return user


async def _begin(gateway: Gateway, user: Row) -> Tokens:
    session = _Session(user=user, session_id=str(uuid4()))
    async with gateway.database.transaction() as connection:
        refresh_token = await _write_refresh(connection, session)
    return _tokens(gateway, session, refresh_token=refresh_token)


async def _go_on(gateway: Gateway, refresh_token: str) -> Tokens:
    async with gateway.database.transaction() as connection:
        found = await connection.execute(_SESSION, (_hash(refresh_token),))
        user = await found.fetchone()
        if user is None or user["is_disabled"] or user["is_expired"]:
            raise _refused()
        session = _Session(user=user, session_id=user["session_id"])
        if user["used_at"] is None:
            await connection.execute(
                "update refresh_tokens set used_at = now() where token_hash = %s", (_hash(refresh_token),)
            )
            following = await _write_refresh(connection, session)
            return _tokens(gateway, session, refresh_token=following)
        bearer, why = _principal(gateway, session), "refresh token used twice"  # one of the two has stolen it
        await _end(gateway, connection, session.session_id, caller=bearer, origin=HERE, why=why)
    raise _refused()


async def _write_refresh(connection: Connection, session: _Session) -> str:
    token = secrets.token_urlsafe(32)
    await connection.execute(
        "insert into refresh_tokens (token_hash, session_id, user_id, created_at, expires_at) "
        "values (%s, %s, %s, now(), now() + make_interval(days => %s))",
        (_hash(token), session.session_id, session.user["user_id"], REFRESH_DAYS),
    )
    return token


def _principal(gateway: Gateway, session: _Session) -> Principal:
    now_ms = gateway.clock()
    return Principal(
        user_id=session.user["user_id"],
        email=session.user["email"],
        role=Role(session.user["role"]),
        customer_id=session.user["customer_id"],
        session_id=session.session_id,
        issued_at_ms=now_ms,
        expires_at_ms=now_ms + ACCESS_SECONDS * MS_PER_SECOND,
    )


def _tokens(gateway: Gateway, session: _Session, *, refresh_token: str | None) -> Tokens:
    principal = _principal(gateway, session)
    token = issue(gateway.signing.ring(), principal, issuer=gateway.config.issuer)
    return Tokens(
        access_token=token,
        token_type=SCHEME,
        expires_in=ACCESS_SECONDS,
        refresh_token=refresh_token,
    )


async def revoke(
    gateway: Gateway, *, session_id: str | None, refresh_token: str | None, caller: Principal, origin: str
) -> None:
    """End a session: the one named, or the refresh token's; an unknown token ends none, and nobody is told.

    Args:
        gateway: Its parts.
        session_id: Whose tokens are void from now on.
        refresh_token: Of the session to end instead.
        caller: Who asks, for the audit.
        origin: Address of the caller.
    """
    async with gateway.database.transaction() as connection:
        if refresh_token is not None:
            found = await connection.execute(
                "select session_id::text from refresh_tokens where token_hash = %s", (_hash(refresh_token),)
            )
            row = await found.fetchone()
            session_id = None if row is None else row["session_id"]
        if session_id is not None:
            await _end(gateway, connection, session_id, caller=caller, origin=origin, why="signed out")
    gateway.notifier.poke()
    await gateway.revocations.refresh()


async def _end(
    gateway: Gateway, connection: Connection, session_id: str, *, caller: Principal, origin: str, why: str
) -> None:
    await connection.execute("delete from refresh_tokens where session_id = %s", (session_id,))
    await connection.execute(_REVOKE, (session_id,))
    after = {"why": why}
    audit = audit_of("session.ended", session_id, caller=caller, origin=origin, after=after, at_ms=gateway.clock())
    await owe(connection, [audit], trace_id=audit.audit_id)


def _hash(token: str) -> bytes:
    return sha256(token.encode()).digest()
