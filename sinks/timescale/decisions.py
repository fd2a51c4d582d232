"""Read decisions back from their tables as the records they were, with the recommendation and results of each."""

from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from hcp.model.commands import ControllerResult, OrchestratorCommand
from hcp.model.recommendations import (
    ClassDevices,
    ClassRecommendation,
    MarketSnapshot,
    ModeDevices,
    ModeScore,
    Recommendation,
)
from hcp.model.units import MS_PER_SECOND
from sinks.timescale.failures import store_error
from sinks.timescale.tables import columns_of

CONNECT_SECONDS_MAX: Final = 5
Row = dict[str, Any]
Part = TypeVar("Part")


class DecisionHistory:
    """Decisions in TimescaleDB, read-only on one connection."""

    def __init__(self, dsn: str) -> None:
        """Connect.

        Raises:
            StoreUnavailableError: The database does not answer.
        """
        try:
            self._connection = psycopg.connect(
                dsn, autocommit=True, connect_timeout=CONNECT_SECONDS_MAX, row_factory=dict_row
            )
        except psycopg.Error as error:
            raise store_error("TimescaleDB must answer", error) from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def beginning_with(self, prefix: str, *, count_max: int) -> list[OrchestratorCommand]:
        """Return decisions whose id begins so, newest first."""
        rows = self._ask(
            "select * from decisions where command_id::text like %s order by observed_at desc, command_id limit %s",
            f"{prefix}%",
            count_max,
        )
        return [_record(row, OrchestratorCommand) for row in rows]

    def newest(self, *, count_max: int, facility_id: str | None) -> list[OrchestratorCommand]:
        """Return the newest decisions, of one site or of all."""
        rows = self._ask(
            "select * from decisions where %s::text is null or facility_id = %s "
            "order by observed_at desc, kafka_offset desc limit %s",
            facility_id,
            facility_id,
            count_max,
        )
        return [_record(row, OrchestratorCommand) for row in rows]

    def recommendation(self, decision: OrchestratorCommand) -> Recommendation | None:
        """Return the recommendation decided on, with the decision's class only; None when it is no longer kept."""
        rows = self._ask(
            "select * from recommendations where recommendation_id = %s and device_class = %s",
            decision.recommendation_id,
            decision.device_class,
        )
        if not rows:
            return None
        first = rows[0]
        scores = [msgspec.to_builtins(_record(row, ModeScore)) for row in rows]
        modes = [
            {**_fields(row, ModeDevices), "mode": row["mode"]}
            for row in rows
            if row["movable_count"] or row["switching_count"]
        ]
        classes = {**_fields(first, ClassRecommendation), "scores": scores}
        devices = {**_fields(first, ClassDevices), "device_class": decision.device_class, "modes": modes}
        whole = {
            **_fields(first, Recommendation),
            "market": _fields(first, MarketSnapshot),
            "classes": [classes],
            "devices": [devices],
        }
        return msgspec.convert(whole, Recommendation)

    def results(self, decision_id: str) -> list[Row]:
        """Return outcome and phases, `<phase>_ms`, of each device that was told to switch."""
        names = [column.name for column in columns_of(ControllerResult) if column.name.endswith("_ms")]
        columns = sql.SQL(", ").join(map(sql.Identifier, ["outcome", *names]))
        return self._ask(
            sql.SQL("select {} from switches where decision_id = %s order by device_id").format(columns), decision_id
        )

    def _ask(self, question: str | sql.Composed, *values: object) -> list[Row]:
        try:
            text = question.encode() if isinstance(question, str) else question
            return self._connection.execute(text, values).fetchall()
        except psycopg.Error as error:
            raise store_error("a question must be answered", error) from error


def _record(row: Row, kind: type[Part]) -> Part:
    return msgspec.convert(_fields(row, kind), kind)


def _fields(row: Row, kind: type) -> Row:
    """Return the plain fields of a class from the columns that `columns_of` made of them."""
    return {column.field: _plain(row[column.name]) for column in columns_of(kind)}


def _plain(cell: Any) -> Any:  # noqa: ANN401  # a cell
    if isinstance(cell, datetime):
        return round(cell.timestamp() * MS_PER_SECOND)
    if isinstance(cell, UUID):
        return str(cell)
    return cell
