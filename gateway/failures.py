"""Which database errors pass with time, and which are ours."""

from typing import Final

import psycopg

from hcp.errors import StoreError, StoreUnavailableError

PASSING: Final = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.UndefinedTable)
"""A table that is not there is one whose sink has not begun yet."""


def store_error(what: str, error: psycopg.Error) -> StoreError:
    """Return the error to raise: whether the store is away or refused.

    Args:
        what: What must have happened, `X must be ...`.
        error: What the driver said.
    """
    words = (str(error).strip().splitlines() or [type(error).__name__])[0]
    kind = StoreUnavailableError if isinstance(error, PASSING) else StoreError
    return kind(f"{what}, was: {words}")
