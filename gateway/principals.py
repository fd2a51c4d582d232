"""Who asks: signed-in people and services, their role, and what each role may do (DESIGN.md, section 8)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a signed-in person or service may do."""

    ADMIN = "admin"
    CUSTOMER = "customer"


class Kind(StrEnum):
    """Whether a person signs in with a password or a service with its secret."""

    PERSON = "person"
    SERVICE = "service"


class Access(StrEnum):
    """What a route asks of whoever calls it."""

    PUBLIC = "public"
    SIGNED_IN = "signed_in"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A verified token's bearer.

    Attributes:
        user_id: `sub` of the token.
        email: For people and audits; a service's name for services.
        role: What it may do.
        customer_id: Whose workloads are its own.
        session_id: What a revocation may name.
        issued_at_ms: When the token was made.
        expires_at_ms: When it ends.
    """

    user_id: str
    email: str
    role: Role
    customer_id: str
    session_id: str
    issued_at_ms: int
    expires_at_ms: int

    @property
    def sees_customer(self) -> str | None:
        """Return the customer whose rows it sees; None for an admin, who sees all."""
        return None if self.role is Role.ADMIN else self.customer_id


ADMITTED: Final[dict[Access, frozenset[Role]]] = {
    Access.PUBLIC: frozenset(Role),
    Access.SIGNED_IN: frozenset(Role),
    Access.ADMIN: frozenset({Role.ADMIN}),
}
