"""Customers, people and services: made by an operator on the command line; nobody has a password by default."""

from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import psycopg

from gateway.failures import store_error
from gateway.passwords import hash_password
from gateway.principals import Kind, Role
from hcp.browse.auditing import Operator, audit_of, operator_here
from hcp.clock import wall_ms
from hcp.codecs import encode
from hcp.errors import SettingsError
from hcp.model.ids import id_from_content
from hcp.topics import AUDIT_EVENTS

DEVICES_MAX: Final = 8
SPEND_USD_MICROS_PER_DAY_MAX: Final = 1_000_000_000
CONNECT_SECONDS: Final = 10
EMAIL_CHARACTERS_MAX: Final = 200
"""What an audit event holds of its subject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A person or service to make.

    Attributes:
        email: A service's name for services, in the form of an address too.
        secret: Password, or a service's secret.
        customer_name: Whose workloads are its own; made when there is none of that name.
        devices_max: Quota of a customer made now: devices at once.
        spend_usd_micros_per_day_max: Quota of a customer made now.
    """

    email: str
    secret: str
    kind: Kind
    role: Role
    customer_name: str
    devices_max: int = DEVICES_MAX
    spend_usd_micros_per_day_max: int = SPEND_USD_MICROS_PER_DAY_MAX


def create_user(dsn: str, user: NewUser, *, by: Operator | None = None) -> str:
    """Make a user, and its customer when there is none of that name; return the user's id.

    Args:
        dsn: The operational database.
        user: Whom to make.
        by: Who does it, for the audit; default: this process's account.

    Raises:
        SettingsError: The email is taken or no address, or the password too short.
        StoreError: The database is away or refuses.
    """
    is_address = user.email.count("@") == 1 and not any(each.isspace() for each in user.email)
    if not is_address or len(user.email) > EMAIL_CHARACTERS_MAX:
        raise SettingsError(f"email must be an address of at most {EMAIL_CHARACTERS_MAX} characters, was {user.email}")
    password_hash = hash_password(user.secret)
    user_id = str(uuid4())
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as connection:
            customer_id = _customer(connection, user)
            connection.execute(
                "insert into users (user_id, customer_id, email, kind, role, password_hash) "
                "values (%s, %s, %s, %s, %s, %s)",
                (user_id, customer_id, user.email.lower(), user.kind.value, user.role.value, password_hash),
            )
            made = {"role": user.role.value, "kind": user.kind.value, "customer": user.customer_name}
            _owe_audit(connection, "user.created", user.email.lower(), by=by, after=made)
    except psycopg.errors.UniqueViolation as error:
        raise SettingsError(f"email must be new, was taken: {user.email}") from error
    except psycopg.Error as error:
        raise store_error("the user must be made", error) from error
    return user_id


def _customer(connection: psycopg.Connection, user: NewUser) -> str:
    connection.execute(
        "insert into customers (customer_id, name) values (%s, %s) on conflict (name) do nothing",
        (id_from_content("customer", user.customer_name), user.customer_name),
    )
    row = connection.execute(
        "select customer_id::text from customers where name = %s", (user.customer_name,)
    ).fetchone()
    assert row is not None, "a customer just inserted must be there"
    connection.execute(
        "insert into quotas values (%s, %s, %s) on conflict do nothing",
        (row[0], user.devices_max, user.spend_usd_micros_per_day_max),
    )
    return str(row[0])


def disable_user(dsn: str, email: str, *, by: Operator | None = None) -> None:
    """End a user's sessions within a second, and let it sign in no more; `by` as in `create_user`.

    Raises:
        SettingsError: There is no such user.
        StoreError: The database is away or refuses.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as connection:
            row = connection.execute(
                "update users set is_disabled = true where email = %s returning user_id", (email.lower(),)
            ).fetchone()
            if row is None:
                raise SettingsError(f"email must be a user's, was {email}")
            connection.execute("delete from refresh_tokens where user_id = %s", (row[0],))
            connection.execute("insert into revocations (subject) values (%s)", (row[0],))
            _owe_audit(connection, "user.disabled", email.lower(), by=by)
    except psycopg.Error as error:
        raise store_error("the user must be disabled", error) from error


def audit_key(dsn: str, kid: str, *, by: Operator | None = None) -> None:
    """Owe the audit of a signing key that was made; `by` as in `create_user`.

    Raises:
        StoreError: The database is away or refuses.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as connection:
            _owe_audit(connection, "signing_key.made", kid, by=by)
    except psycopg.Error as error:
        raise store_error(f"key {kid} signs, and its audit must be written", error) from error


def _owe_audit(
    connection: psycopg.Connection,
    action: str,
    subject: str,
    *,
    by: Operator | None,
    after: dict[str, str] | None = None,
) -> None:
    """Write the audit event into the outbox, within the change's own transaction."""
    event = audit_of(by or operator_here(), action=action, subject=subject, at_ms=wall_ms(), after=after)
    connection.execute(
        "insert into outbox (topic, record_key, record, trace_id) values (%s, %s, %s, %s)",
        (AUDIT_EVENTS.name, AUDIT_EVENTS.key_of(event).decode(), encode(event), event.audit_id),
    )
