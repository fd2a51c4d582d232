"""Access tokens: JWT signed with RS256, short-lived, checked for key, issuer, audience, times and revocation."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import jwt

from gateway.keys import KeyRing
from gateway.principals import Principal, Role
from gateway.revocations import Revocations
from hcp.clock import Clock
from hcp.model.units import MS_PER_SECOND

ALGORITHM: Final = "RS256"
AUDIENCE: Final = "hcp"
ACCESS_SECONDS: Final = 900
CLOCK_SKEW_SECONDS: Final = 30
"""A token of a host whose clock runs this much ahead is taken; more is refused."""
TOKEN_BYTES_MAX: Final = 4_096
VERIFIED_MAX: Final = 20_000
"""Tokens whose signature is not checked again while they last."""
REQUIRED: Final = ("exp", "iat", "iss", "aud", "sub", "role", "customer_id", "sid", "email")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefused:
    """Why a token is not taken; in words for its bearer."""

    reason: str


def issue(ring: KeyRing, principal: Principal, *, issuer: str) -> str:
    """Sign an access token for a principal."""
    claims = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": principal.user_id,
        "email": principal.email,
        "role": principal.role.value,
        "customer_id": principal.customer_id,
        "sid": principal.session_id,
        "iat": principal.issued_at_ms / MS_PER_SECOND,
        "exp": principal.expires_at_ms // MS_PER_SECOND,
    }
    return jwt.encode(claims, ring.signing_key, algorithm=ALGORITHM, headers={"kid": ring.signing_kid})


@dataclass(slots=True, kw_only=True)
class Verifier:
    """Checks tokens; keeps those whose signature was right, so that it is checked once."""

    keys: Callable[[], KeyRing]
    revocations: Revocations
    issuer: str
    clock: Clock
    _known: OrderedDict[str, Principal] = field(default_factory=OrderedDict)

    def check(self, token: str) -> Principal | TokenRefused:
        """Return who bears the token, or why it is refused."""
        principal = self._known.get(token)
        if principal is None:
            found = self._decode(token)
            if isinstance(found, TokenRefused):
                return found
            principal = self._known[token] = found
            if len(self._known) > VERIFIED_MAX:
                self._known.popitem(last=False)
        return self.recheck(principal)

    def forget(self) -> None:
        """Check every signature anew: keys have changed."""
        self._known.clear()

    def recheck(self, principal: Principal) -> Principal | TokenRefused:
        """Check what changes with time: expiry and revocation."""
        if self.clock() >= principal.expires_at_ms + CLOCK_SKEW_SECONDS * MS_PER_SECOND:
            return TokenRefused(reason="token must be current, was expired")
        if self.revocations.is_revoked(principal):
            return TokenRefused(reason="token must be valid, was revoked")
        return principal

    def _decode(self, token: str) -> Principal | TokenRefused:
        if len(token) > TOKEN_BYTES_MAX:
            return TokenRefused(reason=f"token must be at most {TOKEN_BYTES_MAX} bytes")
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = self.keys().public_keys.get(kid) if isinstance(kid, str) else None
            if key is None:
                return TokenRefused(reason="token must be signed by one of our keys, was not")
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self.issuer,
                audience=AUDIENCE,
                leeway=CLOCK_SKEW_SECONDS,
                options={"require": list(REQUIRED)},
            )
            return _principal(claims)
        except (jwt.PyJWTError, ValueError, TypeError, UnicodeError, OverflowError) as error:
            return TokenRefused(reason=f"token must be a valid one of ours, was not: {type(error).__name__}")


def _principal(claims: dict[str, Any]) -> Principal:
    return Principal(
        user_id=str(claims["sub"]),
        email=str(claims["email"]),
        role=Role(claims["role"]),
        customer_id=str(claims["customer_id"]),
        session_id=str(claims["sid"]),
        issued_at_ms=round(float(claims["iat"]) * MS_PER_SECOND),
        expires_at_ms=round(float(claims["exp"]) * MS_PER_SECOND),
    )
