"""Put an analyst's SQL to the database: read-only, with a time limit and a row limit, whoever connects."""

from dataclasses import dataclass
from typing import Any, Final

import psycopg

from hcp.model.units import MS_PER_SECOND
from sinks.timescale.failures import store_error

ROWS_MAX: Final = 1_000
"""By default; PostgreSQL has no limit of rows for a role, so the one who asks sets it."""
TIMEOUT_MS: Final = 30 * MS_PER_SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Rows of a question.

    Attributes:
        columns: Their names.
        rows: At most as many as were wanted.
        is_cut: Whether there were more.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    is_cut: bool = False


class Question:
    """A read-only connection; times are given in one zone."""

    def __init__(self, dsn: str, *, zone: str = "UTC", timeout_ms: int = TIMEOUT_MS) -> None:
        """Connect.

        Args:
            dsn: The database.
            zone: Time zone of what is given and of times without one in the question.
            timeout_ms: Limit of each question.

        Raises:
            StoreUnavailableError: The database does not answer.
            StoreError: It knows no such zone.
        """
        try:
            self._connection = psycopg.connect(dsn, autocommit=True, connect_timeout=10)
            for name, value in (
                ("default_transaction_read_only", "on"),
                ("statement_timeout", str(timeout_ms)),
                ("timezone", zone),
            ):
                self._connection.execute("select set_config(%s, %s, false)", (name, value))
        except psycopg.Error as error:
            raise store_error("the database must take a question", error) from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, question: str, *, rows_max: int = ROWS_MAX, **values: object) -> Answer:
        """Return the answer; a result of more rows than `rows_max` is fetched no further.

        Args:
            question: One SQL statement; `%(name)s` stands for a value, and `%` for itself when there are none.
            rows_max: 1 or more.
            values: By name.

        Raises:
            ValueError: `rows_max` is less than 1.
            StoreError: The database refuses it, or it took too long.
        """
        if rows_max < 1:
            raise ValueError(f"rows_max must be 1 or more, was {rows_max}")
        try:
            with self._connection.transaction(), self._connection.cursor(name="answer") as cursor:
                cursor.execute(question.strip().rstrip(";").encode(), values or None)
                rows = cursor.fetchmany(rows_max + 1)
                columns = tuple(column.name for column in cursor.description or ())
        except psycopg.Error as error:
            raise store_error("a question must be answered", error) from error
        return Answer(columns=columns, rows=tuple(rows[:rows_max]), is_cut=len(rows) > rows_max)
