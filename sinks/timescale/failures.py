"""Tell a database that is away, which is waited for, from one that refuses, which is not."""

from typing import Final

import psycopg

from hcp.errors import StoreError, StoreUnavailableError

_AWAY: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,  # the server ended a session whose client stood still
    psycopg.errors.TransactionTimeout,
)


def store_error(what: str, error: psycopg.Error) -> StoreError:
    """Return the error to raise; `what` says what must be.

    A lost connection, a full disk, a deadlock are StoreUnavailableError; a missing table, a refused statement are not.
    """
    kind = StoreUnavailableError if isinstance(error, _AWAY) else StoreError
    return kind(f"{what}, was: {str(error).strip()}")
